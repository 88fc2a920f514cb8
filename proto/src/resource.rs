//! The resource types of the stream: their type URLs and how one is packed.

use prost::Message;
use prost_types::Any;

use crate::v1;

/// A message that travels as a resource of the stream.
pub trait Resource: Message + Default {
    /// The type URL under which it is subscribed.
    const TYPE_URL: &'static str;

    /// Packs the message as the stream carries it.
    fn to_any(&self) -> Any {
        Any { type_url: Self::TYPE_URL.to_owned(), value: self.encode_to_vec() }
    }
}

macro_rules! resources {
    ($($name:ident),*) => {
        $(impl Resource for v1::$name {
            const TYPE_URL: &'static str = concat!("type.googleapis.com/leno.v1.", stringify!($name));
        })*
        /// Every type URL of the stream.
        pub const TYPE_URLS: &[&str] = &[$(<v1::$name as Resource>::TYPE_URL),*];
    };
}

resources!(
    Service,
    HttpRoute,
    TcpRoute,
    TlsRoute,
    Gateway,
    Endpoints,
    Address,
    TrustBundle,
    SidecarConfig,
    Revocations
);

/// The pseudo type of a request that only carries a changed [`Registration`](crate::Registration) in its node.
pub const REGISTRATION_URL: &str = "type.googleapis.com/leno.v1.Registration";

/// The one name of a [`v1::SidecarConfig`].
pub const SELF: &str = "self";
