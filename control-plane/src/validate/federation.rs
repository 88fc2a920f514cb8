//! `leno.dev/v1alpha1` FederatedTrustDomain.

use leno_certs::SpiffeId;
use leno_certs::bundle_document::Document;

use super::check::Check;
use crate::config::{FederatedTrustDomainSpec, FieldPath, WrittenProfile};
use crate::model::{BundleEndpoint, FederatedTrustDomain, HttpsUrl};

pub(super) fn check(check: &mut Check<'_>, domain: &str, spec: &FederatedTrustDomainSpec) -> FederatedTrustDomain {
    let path = FieldPath::of("spec");
    let roots = spec.trust_domain_bundle.as_ref().and_then(|text| roots(check, &path.key("trustDomainBundle"), text));
    let endpoint = match (&spec.bundle_endpoint_url, &spec.bundle_endpoint_profile) {
        (Some(url), Some(profile)) => endpoint(check, &path, domain, url, profile),
        (Some(_), None) => {
            let hint = "write `{type: https_spiffe, endpointSPIFFEID: ...}`, or `{type: https_web}`";
            check.error(&path.key("bundleEndpointProfile"), "an endpoint has a profile", hint);
            None
        }
        (None, Some(_)) => {
            check.error(
                &path.key("bundleEndpointURL"),
                "a profile is for a URL",
                "write the URL, or remove the profile",
            );
            None
        }
        (None, None) => None,
    };
    if spec.bundle_endpoint_url.is_none() && spec.trust_domain_bundle.is_none() {
        let hint =
            "write `trustDomainBundle` (`leno ca bundle` of the other mesh prints it), `bundleEndpointURL`, or both";
        check.error(&path, "nothing says what the domain's roots are", hint);
    }
    if endpoint.as_ref().is_some_and(|endpoint| endpoint.id.is_some()) && spec.trust_domain_bundle.is_none() {
        let hint = "write what `leno ca bundle` of the other mesh prints";
        let what = "an https_spiffe endpoint proves itself by the roots that are believed already";
        check.error(&path.key("trustDomainBundle"), what, hint);
    }
    FederatedTrustDomain { endpoint, roots: roots.map(Into::into) }
}

fn roots(check: &mut Check<'_>, path: &FieldPath, text: &str) -> Option<Vec<Vec<u8>>> {
    match Document::parse(text.as_bytes()) {
        Ok(document) => Some(document.roots),
        Err(why) => {
            check.error(
                path,
                format!("it is no bundle: {why}"),
                "write what `leno ca bundle` of the other mesh prints",
            );
            None
        }
    }
}

fn endpoint(
    check: &mut Check<'_>,
    path: &FieldPath,
    domain: &str,
    url: &str,
    profile: &WrittenProfile,
) -> Option<BundleEndpoint> {
    let at = path.key("bundleEndpointProfile");
    let url = HttpsUrl::parse(url).map_err(|why| {
        let hint = "write it as https://west.example:15013/";
        check.error(&path.key("bundleEndpointURL"), format!("the URL {why}"), hint);
    });
    let id = match (profile.kind.as_str(), &profile.endpoint_spiffe_id) {
        ("https_web", None) => Some(None),
        ("https_web", Some(_)) => {
            check.error(&at.key("endpointSPIFFEID"), "is for https_spiffe", "remove it, or write that type");
            None
        }
        ("https_spiffe", Some(id)) => match SpiffeId::parse(id) {
            Ok(id) if id.trust_domain() == domain => Some(Some(id)),
            Ok(id) => {
                let what = format!("{id} is of another trust domain than {domain}, whose roots it is to tell");
                check.error(&at.key("endpointSPIFFEID"), what, "write the identity of that mesh's control plane");
                None
            }
            Err(why) => {
                let hint = format!("write spiffe://{domain}/ns/leno-system/sa/control-plane");
                check.error(&at.key("endpointSPIFFEID"), why.to_string(), hint);
                None
            }
        },
        ("https_spiffe", None) => {
            let hint = format!("write spiffe://{domain}/ns/leno-system/sa/control-plane");
            check.error(&at.key("endpointSPIFFEID"), "whom the endpoint has to prove to be", hint);
            None
        }
        (other, _) => {
            check.error(&at.key("type"), format!("{other:?} is no profile"), "write https_spiffe or https_web");
            None
        }
    };
    Some(BundleEndpoint { url: url.ok()?, id: id? })
}

#[cfg(test)]
mod tests {
    use crate::config;
    use crate::validate;

    fn problems(spec: &str) -> Vec<String> {
        let yaml = format!(
            "{{apiVersion: leno.dev/v1alpha1, kind: FederatedTrustDomain, metadata: {{name: west.example}}, spec: {{{spec}}}}}"
        );
        let checked = validate::batch(config::parse("a.yaml", yaml.as_bytes()).objects);
        checked.problems.into_iter().map(|problem| format!("{} {}", problem.field, problem.message)).collect()
    }

    const BUNDLE: &str = "trustDomainBundle: '{\"keys\": []}'";
    const SPIFFE: &str = "bundleEndpointURL: 'https://west.example/', bundleEndpointProfile: \
                          {type: https_spiffe, endpointSPIFFEID: 'spiffe://west.example/ns/leno-system/sa/control-plane'}";
    const WEB: &str = "bundleEndpointURL: 'https://west.example/', bundleEndpointProfile: {type: https_web}";

    #[test]
    fn a_domain_says_how_its_roots_are_learned() {
        for good in [BUNDLE.to_owned(), format!("{SPIFFE}, {BUNDLE}"), WEB.to_owned(), format!("{WEB}, {BUNDLE}")] {
            assert_eq!(problems(&good), [""; 0], "{good}");
        }
        for (bad, at) in [
            (String::new(), "spec"),
            ("trustDomainBundle: '{}'".to_owned(), "spec.trustDomainBundle"),
            (SPIFFE.to_owned(), "spec.trustDomainBundle"),
            (format!("{BUNDLE}, bundleEndpointURL: 'https://west.example/'"), "spec.bundleEndpointProfile"),
            (format!("{BUNDLE}, bundleEndpointProfile: {{type: https_web}}"), "spec.bundleEndpointURL"),
            (WEB.replace("https://", "http://"), "spec.bundleEndpointURL"),
            (WEB.replace("https_web", "web"), "spec.bundleEndpointProfile.type"),
            (WEB.replace("https_web", "https_spiffe"), "spec.bundleEndpointProfile.endpointSPIFFEID"),
            (
                format!("{SPIFFE}, {BUNDLE}").replace("spiffe://west", "spiffe://east"),
                "spec.bundleEndpointProfile.endpointSPIFFEID",
            ),
            (
                format!("{SPIFFE}, {BUNDLE}").replace("spiffe://west.example/ns", "spiffe://west.example/x"),
                "spec.bundleEndpointProfile.endpointSPIFFEID",
            ),
        ] {
            let found = problems(&bad);
            assert!(found.len() == 1 && found[0].starts_with(&format!("{at} ")), "{bad}: {found:?}");
        }
    }
}
