//! Finding the root by a join secret. Whoever answers at the control plane's address is asked for a proof that he knows the secret;
//! the proof names his root. The connection that it came by is trusted in nothing else: a man in the middle can pass on
//! the question and the answer, but then the root is the control plane's, and the next connection, which must lead to that root,
//! cannot be his.

use aws_lc_rs::rand;
use leno_certs::{JoinSecret, NONCE_BYTES, tls};
use leno_proto::v1::ProveRequest;
use leno_proto::v1::identity_client::IdentityClient;

use super::join::{self, JoinError};
use crate::settings::HostPort;
use crate::xds::connect::{self, ALPN};

/// SHA-256 of the root certificate that the holder of the secret vouches for.
pub(super) async fn root(addr: &HostPort, secret: &JoinSecret) -> Result<[u8; 32], JoinError> {
    let mut nonce = [0; NONCE_BYTES];
    rand::fill(&mut nonce).map_err(|_| JoinError::Unreachable("this system gives no random bytes".to_owned()))?;
    let link = connect::connect(addr, tls::unproven_client(ALPN)?).await?;
    let request = ProveRequest { secret_id: secret.id().to_owned(), nonce: nonce.to_vec() };
    let proof = join::call(async move { IdentityClient::new(link.channel).prove(request).await }).await?;
    let root = <[u8; 32]>::try_from(proof.root_sha256.as_slice()).ok();
    match root.filter(|root| secret.root_is_proven(&nonce, root, &proof.mac)) {
        Some(root) => Ok(root),
        None => Err(JoinError::Refused(
            "whoever answers there does not know the join secret (it was changed at one end, or somebody stands in between)"
                .to_owned(),
        )),
    }
}
