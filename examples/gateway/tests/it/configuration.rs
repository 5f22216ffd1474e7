//! What cannot work is refused before anything listens.

use gateway::config::Config;

#[test]
fn the_file_beside_the_program_works() {
    let text = include_str!("../../gateway.toml");
    let config: Config = text.parse().unwrap();
    assert_eq!(config.routes.len(), 2);
    let _ = gateway::router(&config).unwrap();
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let route = "[[routes]]\nprefix = \"/a\"\nupstreams = [\"http://127.0.0.1:1\"]\n";
    for (lines, words) in [
        (String::new(), "routes"),
        (route.replace("/a\"", "a\""), "prefix must be a path"),
        (route.replace("http:", "ftp:"), "http://host:port"),
        (
            format!("{route}attempt_ms = 0"),
            "attempt_ms must be from 1",
        ),
        (
            format!("{route}retry = {{ attempts = 0 }}"),
            "attempts must be from 1",
        ),
        (
            format!("{route}retri = {{ attempts = 1 }}"),
            "unknown field `retri`",
        ),
        (
            format!("{route}client = {{ permits = 0, per_ms = 1 }}"),
            "permits",
        ),
    ] {
        let text = format!("listen = \"127.0.0.1:0\"\n{lines}");
        let error = text.parse::<Config>().unwrap_err();
        assert!(format!("{error:#}").contains(words), "{error:#}");
    }
}
