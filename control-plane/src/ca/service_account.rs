//! Joining by the token of a Kubernetes service account, as kubelet puts it into a pod (a projected volume with the audience `leno`).
//!
//! A token is believed when its issuer's key signed it, it is meant for us, it has not expired, it lives for a day at most, and its
//! claims name a namespace and a service account that agree with its subject. It is then bound to the key of the first signing
//! request that comes with it, by [`crate::store::Store::show_token`]: the same sidecar may repeat its request, since an answer can be
//! lost and the file is the same for every restart of a container; whoever else gets hold of the token later gets nothing for it.

use std::path::PathBuf;
use std::time::Duration;

use leno_certs::jwt::{self, Algorithm, Claims, Expected, KeySet, MOST_KEY_SET_BYTES, Refused};
use leno_certs::{CONTROL_PLANE_NAMESPACE, SpiffeId};
use serde_json::Value;

use super::Refusal;
use crate::jwks::Keyring;
use crate::model::HttpsUrl;

/// What API servers sign by. Neither `none` nor a shared secret is ever taken.
const ALGORITHMS: [Algorithm; 6] =
    [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Es256, Algorithm::Es384, Algorithm::Es512];
/// Longest life of a token, in seconds. Kubelet asks for an hour; what was made to last is no proof of a pod that runs.
const MOST_LIFE: i64 = 24 * 3600 + jwt::LEEWAY;
/// How long a join waits for a key set that is fetched because it has not the token's key.
const FETCH: Duration = Duration::from_secs(5);

/// Where the cluster's public keys come from.
pub enum KeySource {
    /// A file, read for each join, so that a new one counts at once.
    File(PathBuf),
    /// A URL that is fetched.
    Url(Keyring, HttpsUrl),
}

/// The cluster whose service accounts may join.
pub struct ServiceAccounts {
    issuer: String,
    audiences: [String; 1],
    trust_domain: String,
    keys: KeySource,
}

/// Who a token proves its holder to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    pub id: SpiffeId,
    /// What the token is known by.
    pub fingerprint: [u8; 32],
    /// Seconds since 1970; nobody takes the token from then on.
    pub forget: i64,
    /// Name of the pod that it is bound to, for the log.
    pub pod: Option<String>,
    /// What its holder may join by again: the pod, whose tokens kubelet renews, or the token of no pod.
    pub origin: String,
}

impl ServiceAccounts {
    /// Those of `issuer`, with tokens for `audience`; they get identities of `trust_domain`.
    pub fn new(issuer: String, audience: String, trust_domain: String, keys: KeySource) -> Self {
        Self { issuer, audiences: [audience], trust_domain, keys }
    }

    /// Who shows this token. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// It is not believed, or there are no keys to believe it by.
    pub async fn prove(&self, token: &str, now: i64) -> Result<Proven, Refusal> {
        let token = token.trim();
        let claims = match self.verify(token, now).await {
            Err(Refusal::Jwt(Refused::UnknownKey)) => {
                let KeySource::Url(keyring, url) = &self.keys else { return Err(Refusal::Jwt(Refused::UnknownKey)) };
                keyring.ask_again(url, FETCH).await;
                self.verify(token, now).await?
            }
            other => other?,
        };
        let fingerprint = jwt::fingerprint(token).map_err(Refusal::Jwt)?;
        self.proven(&claims, fingerprint, now)
    }

    async fn verify(&self, token: &str, now: i64) -> Result<Claims, Refusal> {
        let expected = Expected { issuer: &self.issuer, audiences: &self.audiences, algorithms: &ALGORITHMS };
        let verify = |keys: &KeySet| jwt::verify(token, keys, &expected, now).map_err(Refusal::Jwt);
        match &self.keys {
            KeySource::File(path) => verify(&read(path).await.map_err(Refusal::JwksUnavailable)?),
            KeySource::Url(keyring, url) => {
                if keyring.keys(url).is_none() {
                    keyring.ask_again(url, FETCH).await;
                }
                let keys = keyring.keys(url);
                verify(&keys.ok_or_else(|| Refusal::JwksUnavailable(format!("{url} was not fetched yet")))?.set)
            }
        }
    }

    fn proven(&self, claims: &Claims, fingerprint: [u8; 32], now: i64) -> Result<Proven, Refusal> {
        let expires = jwt::time(claims, "exp").map_err(Refusal::Jwt)?.unwrap_or(now);
        let issued = jwt::time(claims, "iat").map_err(Refusal::Jwt)?.unwrap_or(now);
        if expires - issued.min(now) > MOST_LIFE {
            return Err(Refusal::JwtLongLived);
        }
        let kubernetes = claims.get("kubernetes.io");
        let text = |of: Option<&Value>, name: &str| of?.get(name)?.as_str().map(str::to_owned);
        let missing = || Refusal::JwtClaims("it does not name a namespace and a service account (kubernetes.io)");
        let namespace = text(kubernetes, "namespace").ok_or_else(missing)?;
        let account = text(kubernetes.and_then(|k| k.get("serviceaccount")), "name").ok_or_else(missing)?;
        let subject = format!("system:serviceaccount:{namespace}:{account}");
        if claims.get("sub").and_then(Value::as_str) != Some(&subject) {
            return Err(Refusal::JwtClaims("its subject is not its service account"));
        }
        if namespace == CONTROL_PLANE_NAMESPACE {
            return Err(Refusal::JwtClaims("it is of the namespace leno-system, which is the control plane's own"));
        }
        let id = SpiffeId::new(&self.trust_domain, &namespace, &account)
            .map_err(|_| Refusal::JwtClaims("its service account cannot be in a SPIFFE ID"))?;
        let pod = kubernetes.and_then(|k| k.get("pod"));
        let origin = text(pod, "uid").unwrap_or_else(|| hex::encode(fingerprint));
        Ok(Proven { id, fingerprint, forget: expires.saturating_add(jwt::LEEWAY), pod: text(pod, "name"), origin })
    }
}

async fn read(path: &std::path::Path) -> Result<KeySet, String> {
    let failed = |why: String| format!("--service-account-jwks {}: {why}", path.display());
    let length = tokio::fs::metadata(path).await.map_err(|why| failed(why.to_string()))?.len();
    if length > MOST_KEY_SET_BYTES as u64 {
        return Err(failed(format!("it has more than {MOST_KEY_SET_BYTES} bytes")));
    }
    let bytes = tokio::fs::read(path).await.map_err(|why| failed(why.to_string()))?;
    KeySet::parse(&bytes).map_err(|why| failed(why.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jwks::issuer::Issuer;

    const NOW: i64 = 1_800_000_000;
    const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

    fn claims() -> Value {
        json!({
            "iss": ISSUER, "aud": ["leno"], "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 3600, "jti": "1",
            "sub": "system:serviceaccount:shop:web",
            "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "web", "uid": "2"}, "pod": {"name": "web-1", "uid": "3"}},
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut claims = claims();
        *claims.pointer_mut(pointer).unwrap() = value;
        claims
    }

    struct Scene {
        issuer: Issuer,
        accounts: ServiceAccounts,
        dir: tempfile::TempDir,
    }

    fn scene() -> Scene {
        let (issuer, dir) = (Issuer::rs256("a"), tempfile::tempdir().unwrap());
        let file = dir.path().join("jwks.json");
        std::fs::write(&file, issuer.jwks()).unwrap();
        let keys = KeySource::File(file);
        let accounts = ServiceAccounts::new(ISSUER.to_owned(), "leno".to_owned(), "cluster.local".to_owned(), keys);
        Scene { issuer, accounts, dir }
    }

    impl Scene {
        async fn ask(&self, claims: &Value) -> Result<Proven, Refusal> {
            self.accounts.prove(&self.issuer.sign(claims), NOW).await
        }
    }

    #[tokio::test]
    async fn a_pods_token_proves_its_service_account() {
        let scene = scene();
        let proven = scene.ask(&claims()).await.unwrap();
        assert_eq!(proven.id.as_str(), "spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!((proven.pod.as_deref(), proven.forget), (Some("web-1"), NOW + 3600 + jwt::LEEWAY));
        let token = scene.issuer.sign(&claims());
        assert!(scene.accounts.prove(&format!("{token}\n"), NOW).await.is_ok(), "a file ends with a line break");
    }

    #[tokio::test]
    async fn what_does_not_prove_one_service_account_is_refused() {
        let scene = scene();
        for (claims, reason) in [
            (with("/sub", json!("system:serviceaccount:shop:admin")), "jwt_claims"),
            (with("/sub", json!("system:node:web")), "jwt_claims"),
            (with("/kubernetes.io/namespace", json!("ops")), "jwt_claims"),
            (with("/kubernetes.io/serviceaccount/name", json!(["web"])), "jwt_claims"),
            (with("/kubernetes.io", json!(null)), "jwt_claims"),
            (with("/exp", json!(NOW + 365 * 24 * 3600)), "jwt_long_lived"),
            (with("/iat", json!(NOW + 365 * 24 * 3600)), "ok"),
            (with("/aud", json!("https://kubernetes.default.svc")), "jwt_audience"),
            (with("/iss", json!("https://evil.example")), "jwt_issuer"),
            (with("/exp", json!(NOW - 60)), "jwt_expired"),
        ] {
            let outcome = scene.ask(&claims).await;
            assert_eq!(outcome.as_ref().map_or_else(|refusal| refusal.reason(), |_| "ok"), reason, "{claims}");
        }
        for (namespace, account) in [("leno-system", "control-plane"), ("a/b", "web"), ("..", "web"), ("shop", "")] {
            let mut claims = with("/kubernetes.io/namespace", json!(namespace));
            claims["kubernetes.io"]["serviceaccount"]["name"] = json!(account);
            claims["sub"] = json!(format!("system:serviceaccount:{namespace}:{account}"));
            assert_eq!(scene.ask(&claims).await.unwrap_err().reason(), "jwt_claims", "{namespace} {account}");
        }
        let es = Issuer::ed25519("a").sign(&claims());
        assert_eq!(scene.accounts.prove(&es, NOW).await.unwrap_err().reason(), "jwt_algorithm");
    }

    #[tokio::test]
    async fn a_new_file_of_keys_counts_at_once_and_without_one_nobody_joins() {
        let scene = scene();
        let file = scene.dir.path().join("jwks.json");
        let newer = Issuer::es256("b");
        std::fs::write(&file, newer.jwks()).unwrap();
        assert_eq!(scene.ask(&claims()).await.unwrap_err().reason(), "jwt_unknown_key");
        assert!(scene.accounts.prove(&newer.sign(&claims()), NOW).await.is_ok());
        for broken in ["", "{}", r#"{"keys": []}"#, &" ".repeat(MOST_KEY_SET_BYTES + 1)] {
            std::fs::write(&file, broken).unwrap();
            assert_eq!(
                scene.accounts.prove(&newer.sign(&claims()), NOW).await.unwrap_err().reason(),
                "jwks_unavailable"
            );
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(scene.accounts.prove(&newer.sign(&claims()), NOW).await.unwrap_err().reason(), "jwks_unavailable");
    }
}
