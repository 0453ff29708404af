//! Which headers pass, which end here and which are added. Pure.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
    uri::Authority,
};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const REVISION: HeaderName = HeaderName::from_static("x-dure-revision");
const USER: HeaderName = HeaderName::from_static("x-dure-user");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    TE,
    TRAILER,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Headers that a request gets on its way, so that the map grows once.
const ADDED: usize = 8;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// What the gateway says to a replica about a request.
pub struct Forwarded<'a> {
    pub user: &'a HeaderValue,
    pub prefix: &'a HeaderValue,
    pub peer: &'a HeaderValue,
    pub proto: HeaderValue,
    pub request_id: HeaderValue,
    /// Of a request in absolute form, where it stands above the Host header.
    pub authority: Option<&'a Authority>,
    pub websocket: bool,
    /// A body whose length nobody knows yet.
    pub chunked: bool,
}

/// The bearer token of a request. A second Authorization header makes it none: which one counts would
/// be a guess.
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (all.next()?.as_bytes(), all.next()) else {
        return None;
    };
    let (scheme, token) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Only WebSocket is tunnelled: another protocol (h2c) would let a caller speak to the replica in
/// requests that nobody checks.
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let Some(upgrade) = headers.get(UPGRADE) else {
        return false;
    };
    upgrade.as_bytes().eq_ignore_ascii_case(b"websocket") && named_by_connection(headers).any(|name| name == UPGRADE)
}

fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let lines = headers.get_all(CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

fn remove_hop_by_hop(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    let named = named_by_connection(headers);
    let listed = headers.keys().filter(|name| HOP_BY_HOP.contains(name) || also(name)).cloned();
    // Usually empty or one long: no allocation or a small one.
    let gone: Vec<HeaderName> = named.chain(listed).collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Says things in the gateway's name. `_` counts as `-`, because CGI-like servers make no difference.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let begins = |prefix: &[u8]| {
        name.len() >= prefix.len()
            && name.iter().zip(prefix).all(|(byte, wanted)| byte == wanted || (*byte == b'_' && *wanted == b'-'))
    };
    begins(b"x-dure-") || (begins(b"x-forwarded-") && name.contains(&b'_'))
}

pub fn prepare_request(headers: &mut HeaderMap, forwarded: Forwarded<'_>) {
    let host = headers.get(HOST).cloned();
    headers.reserve(ADDED);
    remove_hop_by_hop(headers, |name| {
        // hyper frames the body anew, and it answers Expect itself when the body is first read.
        *name == AUTHORIZATION || *name == CONTENT_LENGTH || *name == EXPECT || is_ours(name)
    });
    // Without a name and password, which may stand before it.
    let named = forwarded.authority.and_then(|authority| authority.as_str().rsplit('@').next());
    let named = named.and_then(|named| HeaderValue::from_str(named).ok());
    let host = named.or(host).unwrap_or(HeaderValue::from_static("localhost"));
    headers.insert(FORWARDED_HOST, host.clone());
    headers.insert(HOST, host);
    if forwarded.websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
    }
    if forwarded.chunked {
        // Said here, because hyper's client takes a GET of unknown length for one without a body.
        headers.insert(TRANSFER_ENCODING, CHUNKED);
    }
    let chain = appended(headers, forwarded.peer);
    headers.insert(FORWARDED_FOR, chain);
    headers.insert(FORWARDED_PREFIX, forwarded.prefix.clone());
    headers.insert(FORWARDED_PROTO, forwarded.proto);
    headers.insert(REQUEST_ID, forwarded.request_id);
    headers.insert(USER, forwarded.user.clone());
}

fn appended(headers: &HeaderMap, peer: &HeaderValue) -> HeaderValue {
    if !headers.contains_key(FORWARDED_FOR) {
        return peer.clone();
    }
    let mut chain = Vec::new();
    for line in headers.get_all(FORWARDED_FOR) {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.as_bytes());
    HeaderValue::from_bytes(&chain).unwrap_or_else(|_| peer.clone())
}

pub fn prepare_response(headers: &mut HeaderMap, revision: HeaderValue, request_id: HeaderValue, upgraded: bool) {
    // A length beside a transfer coding is wrong by definition, and smuggles where it is believed.
    let coded = headers.contains_key(TRANSFER_ENCODING);
    remove_hop_by_hop(headers, |name| coded && *name == CONTENT_LENGTH);
    if upgraded {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
    }
    headers.insert(REVISION, revision);
    headers.insert(REQUEST_ID, request_id);
}

/// The caller's id where it is one, else a new one of 128 random bits.
pub fn request_id(headers: &HeaderMap, mut random: impl FnMut() -> u64) -> HeaderValue {
    let usable = |id: &&HeaderValue| {
        let id = id.as_bytes();
        (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
    };
    if let Some(given) = headers.get(REQUEST_ID).filter(usable) {
        return given.clone();
    }
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random().to_be_bytes());
    bytes[8..].copy_from_slice(&random().to_be_bytes());
    let mut text = [b'0'; 32];
    let made = hex::encode_to_slice(bytes, &mut text).is_ok();
    HeaderValue::from_bytes(if made { &text } else { b"0" }).unwrap_or(HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_bearer_token_is_read_only_where_it_is_the_only_one() {
        let token = |lines: &[(&'static str, &'static str)]| bearer(&map(lines)).map(<[u8]>::to_vec);
        assert_eq!(token(&[("authorization", "Bearer abc")]), Some(b"abc".to_vec()));
        assert_eq!(token(&[("authorization", "bEARER abc")]), Some(b"abc".to_vec()));
        for none in ["Bearer", "Bearer ", "Basic abc", "Bear", ""] {
            assert_eq!(token(&[("authorization", none)]), None, "{none}");
        }
        assert_eq!(token(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]), None);
        assert_eq!(token(&[]), None);
    }

    #[test]
    fn what_only_concerns_this_hop_or_speaks_in_our_name_does_not_pass() {
        let mut headers = map(&[
            ("host", "dure.example"),
            ("connection", "keep-alive, X-Secret, host"),
            ("keep-alive", "timeout=5"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("proxy-authorization", "Basic x"),
            ("authorization", "Bearer token"),
            ("upgrade", "h2c"),
            ("x-dure-user", "owner"),
            ("x_dure_user", "owner"),
            ("x-dure-anything", "1"),
            ("x_forwarded_for", "9.9.9.9"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "gopher"),
            ("expect", "100-continue"),
            ("content-length", "5"),
            ("accept", "text/plain"),
        ]);
        assert!(!asks_for_websocket(&headers));
        prepare_request(
            &mut headers,
            Forwarded {
                user: &HeaderValue::from_static("lee"),
                prefix: &HeaderValue::from_static("/s/a/b"),
                peer: &HeaderValue::from_static("3.3.3.3"),
                proto: HeaderValue::from_static("https"),
                request_id: HeaderValue::from_static("id"),
                authority: None,
                websocket: false,
                chunked: false,
            },
        );
        let expected = map(&[
            ("host", "dure.example"),
            ("accept", "text/plain"),
            ("x-forwarded-host", "dure.example"),
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 3.3.3.3"),
            ("x-forwarded-prefix", "/s/a/b"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "id"),
            ("x-dure-user", "lee"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_request_id_is_kept_where_it_is_one_and_made_otherwise() {
        let id = |lines: &[(&'static str, &'static str)]| request_id(&map(lines), || 0xab);
        assert_eq!(id(&[("x-request-id", "a-1")]), "a-1");
        assert_eq!(id(&[("x-request-id", "a b")]), "00000000000000ab00000000000000ab");
        assert_eq!(id(&[]).len(), 32);
    }
}
