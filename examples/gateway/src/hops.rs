//! What a header says of one connection is not passed on to the next.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// RFC 9110, section 7.6.1, and what older ones had. `TE: trailers` goes on: gRPC asks for it.
const OF_ONE_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Takes away what was meant for this hop alone, as well as what `Connection` names.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|it| it.as_bytes().eq_ignore_ascii_case(b"trailers"));
    for name in OF_ONE_HOP.into_iter().chain(named) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Adds whom the request came from behind what is there already.
pub(crate) fn came_from(headers: &mut HeaderMap, peer: IpAddr) {
    let mut line: Vec<u8> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .flat_map(|value| [value.as_bytes(), b", "].concat())
        .collect();
    line.extend_from_slice(peer.to_string().as_bytes());
    // It was made of values of headers and an address.
    if let Ok(line) = HeaderValue::from_bytes(&line) {
        headers.insert(X_FORWARDED_FOR, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |&(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn what_is_for_one_hop_ends_there_and_the_rest_goes_on() {
        let mut headers = map(&[
            ("connection", "close, x-secret"),
            ("x-secret", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ]);
        strip(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers"), ("accept", "*/*")]));
    }

    #[test]
    fn the_peer_is_added_last_so_nobody_can_pass_for_another() {
        let mut headers = map(&[("x-forwarded-for", "6.6.6.6")]);
        came_from(&mut headers, [127, 0, 0, 1].into());
        assert_eq!(headers, map(&[("x-forwarded-for", "6.6.6.6, 127.0.0.1")]));
    }
}
