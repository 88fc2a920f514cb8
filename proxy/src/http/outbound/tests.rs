use super::*;
use crate::model::Demand;

fn authority(via: &Via, request: http::request::Builder) -> Result<String, Reason> {
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let authority = normalise(&mut parts, via)?;
    assert_eq!(parts.uri.authority(), Some(&authority));
    assert!(!parts.headers.contains_key(header::HOST));
    Ok(authority.to_string())
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri)
}

fn upstream() -> Via {
    let demand = Demand::Service("shop/web".to_owned());
    Via::Upstream(Rc::new(ServiceAddress { demand, port: Some(80) }))
}

#[test]
fn absolute_form_wins_over_host() {
    assert_eq!(authority(&Via::Proxy, get("http://web:81/a").header("host", "other")), Ok("web:81".to_owned()));
    assert_eq!(authority(&Via::Proxy, get("/a").header("host", "web")), Ok("web".to_owned()));
}

#[test]
fn a_host_that_two_readers_could_take_differently_is_refused() {
    let twice = get("/").header("host", "web").header("host", "web");
    assert_eq!(authority(&Via::Proxy, twice), Err(Reason::BadAuthority));
    assert_eq!(authority(&Via::Proxy, get("/")), Err(Reason::BadAuthority));
    assert_eq!(authority(&Via::Proxy, get("/").header("host", "")), Err(Reason::BadAuthority));
    assert_eq!(authority(&Via::Proxy, get("http://user@web/")), Err(Reason::BadAuthority));
    assert_eq!(authority(&Via::Proxy, get("ftp://web/")), Err(Reason::BadRequest));
}

#[test]
fn where_one_service_is_meant_an_old_client_need_not_name_it() {
    assert_eq!(authority(&upstream(), get("/").version(Version::HTTP_10)), Ok("web.shop".to_owned()));
    assert_eq!(authority(&upstream(), get("/").header("host", "")), Ok("web.shop".to_owned()));
    assert_eq!(authority(&upstream(), get("/")), Err(Reason::BadAuthority));
}

#[test]
fn an_offer_of_http2_is_passed_over() {
    let upgrade = |to: &str| get("http://web/").header("connection", "upgrade").header("upgrade", to);
    assert_eq!(authority(&Via::Proxy, upgrade("h2c")), Ok("web".to_owned()));
}
