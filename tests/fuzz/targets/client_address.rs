//! `X-Forwarded-For` and `Forwarded` of any bytes: never a panic, and who calls without a proxy is
//! who he is.
#![no_main]

use std::net::SocketAddr;

use buttress_rate_limiter::http::{Client, Forwarding, Proxies};
use http::{Extensions, HeaderValue, Request, request::Parts};
use libfuzzer_sys::fuzz_target;

fn parts(name: &'static str, input: &[u8]) -> Parts {
    let mut request = Request::new(());
    for field in input.split(|byte| *byte == b'\n').take(8) {
        if let Ok(value) = HeaderValue::from_bytes(field) {
            request.headers_mut().append(name, value);
        }
    }
    request.into_parts().0
}

fuzz_target!(|input: &[u8]| {
    let peer: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let client =
        |proxies: Proxies| Client::address_of(proxies, move |_: &Extensions| Some(peer.ip()));
    let alone = client(Proxies::none());
    let itself = alone.key(&parts("x-none", b""));
    for (name, forwarding) in [
        ("x-forwarded-for", Forwarding::XForwardedFor),
        ("forwarded", Forwarding::Forwarded),
    ] {
        let asked = parts(name, input);
        assert_eq!(alone.key(&asked), itself, "nobody was to be believed");
        for count in [1, 2, 50] {
            let proxies = Proxies::count(count).writing(forwarding);
            // An address has 4 bytes, or a network's 8, and what tells them apart.
            let key = client(proxies).key(&asked);
            assert!(key.is_none_or(|key| key.len() <= 20));
        }
    }
});
