//! What goes through, and what does not.

use axum::{
    body::{Body, to_bytes},
    http::Response,
};

use crate::house::{gateway, status, upstream};

#[tokio::test]
async fn path_query_body_and_headers_go_on_and_what_is_for_one_hop_does_not() {
    let (echo, _) = upstream(async |_, request: axum::extract::Request| {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let field = |name| {
            parts
                .headers
                .get(name)
                .map(|it| it.to_str().unwrap().to_owned())
        };
        let said = serde_json::json!({
            "method": parts.method.as_str(),
            "uri": parts.uri.to_string(),
            "host": field("host"),
            "x": field("x-custom"),
            "hop": field("x-hop"),
            "from": field("x-forwarded-for"),
            "length": body.len(),
        });
        let mut response = Response::new(Body::from(said.to_string()));
        let headers = response.headers_mut();
        headers.insert("keep-alive", "timeout=5".parse().unwrap());
        headers.insert("x-answer", "yes".parse().unwrap());
        response
    })
    .await;
    let route = format!("[[routes]]\nprefix = \"/a\"\nupstreams = [\"http://{echo}\"]");
    let gateway = gateway(&route).await;
    let request = reqwest::Client::new()
        .put(format!("{gateway}/a/b%20c?d=e"))
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("x-custom", "2")
        .body(vec![b'x'; 300_000]);
    let response = request.send().await.unwrap();
    assert_eq!(response.headers().get("keep-alive"), None);
    assert_eq!(response.headers()["x-answer"], "yes");
    assert_eq!(
        response.json::<serde_json::Value>().await.unwrap(),
        serde_json::json!({
            "method": "PUT",
            "uri": "/a/b%20c?d=e",
            "host": echo.to_string(),
            "x": "2",
            "hop": null,
            "from": "127.0.0.1",
            "length": 300_000,
        })
    );
}

#[tokio::test]
async fn the_longest_prefix_decides_and_what_none_fits_is_not_found() {
    let (short, _) = upstream(async |_, _| status(200)).await;
    let (long, _) = upstream(async |_, _| status(201)).await;
    let gateway = gateway(&format!(
        "[[routes]]\nprefix = \"/a\"\nupstreams = [\"http://{short}\"]\n\
         [[routes]]\nprefix = \"/a/b\"\nupstreams = [\"http://{long}\"]"
    ))
    .await;
    for (path, expected) in [
        ("/a", 200),
        ("/a/c", 200),
        ("/a/b", 201),
        ("/a/b/c", 201),
        ("/ab", 404),
    ] {
        let response = reqwest::get(format!("{gateway}{path}")).await.unwrap();
        assert_eq!(response.status(), expected, "{path}");
    }
}
