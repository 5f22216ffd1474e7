//! Header fields that are read, and what is said of those that cannot be.

use buttress_error_envelope::{FieldSource, parse_header};
use http::{HeaderMap, HeaderName, HeaderValue};

const NAME: HeaderName = HeaderName::from_static("x-most");

fn read<T: std::str::FromStr<Err: std::fmt::Display>>(
    values: &[&[u8]],
) -> Result<Option<T>, String> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(NAME, HeaderValue::from_bytes(value).unwrap());
    }
    parse_header(&headers, &NAME).map_err(|problem| {
        assert_eq!(problem.to_string(), "MALFORMED_REQUEST (400)");
        let [field] = problem.fields() else {
            panic!("one field: {problem:?}")
        };
        assert_eq!(*field.source(), FieldSource::Header("x-most".into()));
        field.message().to_owned()
    })
}

#[test]
fn a_header_is_read_or_said_to_be_wrong_without_its_value() {
    assert_eq!(read::<u8>(&[]), Ok(None));
    assert_eq!(read::<u8>(&[b"7"]), Ok(Some(7)));
    for (values, message) in [
        (&[b"7".as_slice(), b"7"][..], "is given more than once"),
        (&[b"\xff"], "is not valid"),
        (&[b""], "must be an integer"),
        (&[b"c4n4ry"], "must be an integer"),
        (&[b"300"], "is out of range"),
    ] {
        assert_eq!(read::<u8>(values), Err(message.to_owned()), "{values:?}");
    }
    assert_eq!(read::<f32>(&[b"x"]), Err("must be a number".to_owned()));
    assert_eq!(
        read::<bool>(&[b"x"]),
        Err("must be true or false".to_owned())
    );
    let address = read::<std::net::IpAddr>(&[b"c4n4ry"]);
    assert_eq!(address, Err("is not valid".to_owned()));
}
