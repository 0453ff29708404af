//! The client against a small HTTP server that breaks connections, restarts and forgets.

use std::{
    collections::HashMap,
    convert::Infallible,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use dure_client::{Client, ClientError, LogEvent, hash_files, pages};
use dure_types::{
    Code, Digest, FileEntry, Manifest, Name, Page, Problem, Selector,
    blob::{ManifestCreated, MissingBlob, MissingRequest, MissingResponse, UploadStatus},
    run::{LogQuery, RunQuery},
    user::SetMembership,
};
use futures_util::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{Request, Response, body::Frame, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

type Body = BoxBody<Bytes, std::io::Error>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// A server on a port of its own, ended with the test's runtime.
async fn serve(handler: Handler) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = Arc::clone(&handler);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    url
}

fn handler<F, Answer>(answer: F) -> Handler
where
    F: Fn(Request<Incoming>) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Response<Body>> + Send + 'static,
{
    Arc::new(move |request| Box::pin(answer(request)))
}

fn whole(status: u16, kind: &str, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
    Response::builder().status(status).header("Content-Type", kind).body(body).unwrap()
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    whole(200, "application/json", serde_json::to_vec(value).unwrap())
}

fn problem(problem: &Problem) -> Response<Body> {
    whole(problem.status, Problem::CONTENT_TYPE, serde_json::to_vec(problem).unwrap())
}

/// Pieces of a body, after which the connection breaks if `broken`.
fn pieces(kind: &str, pieces: Vec<&'static [u8]>, broken: bool) -> Response<Body> {
    let pieces: Vec<_> = pieces.into_iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))).collect();
    // The server writes out what it has when the next piece keeps it waiting.
    let end = stream::iter(broken.then_some(())).then(|()| async {
        tokio::task::yield_now().await;
        Err(std::io::Error::other("broken"))
    });
    let body = StreamBody::new(stream::iter(pieces).chain(end));
    Response::builder().header("Content-Type", kind).body(BodyExt::boxed(body)).unwrap()
}

fn client(url: &str) -> Client {
    Client::new(url, "secret", name("team")).unwrap().with_patience(Duration::from_secs(20))
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

const RUN: &str = r#"{"id":"0123456789abcdef0123","name":"train","kind":"job","project":"team","created_by":"lee","state":"succeeded","cpu":"1","memory":"1Gi","gpu":0,"created_at":"2026-01-01T00:00:00Z","attempt":1,"cost":0}"#;

#[tokio::test]
async fn a_followed_log_goes_on_where_the_connection_broke() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let url = serve(handler(move |request| {
        let last = request.headers().get("Last-Event-ID").map(|id| id.to_str().unwrap().to_owned());
        let uri = request.uri().to_string();
        let mut asked = seen.lock().unwrap();
        asked.push(last.clone());
        let times = asked.len();
        async move {
            assert!(uri.contains("/projects/team/runs/0123/logs?"), "{uri}");
            assert!(uri.contains("follow=true"), "{uri}");
            let kind = "text/event-stream";
            match times {
                1 => pieces(kind, vec![b": hi\n\nevent: log\nid: 4\ndata: \"one\\n\"\n\nevent: log\nid: 9\nda"], true),
                2 => problem(&Problem::new(Code::StoreBusy, "starting")),
                3 => pieces(kind, vec![b"event: log\r\nid: 8\r\ndata: \"\xec\x95", b"\x88\\n\"\r\n\r\n"], false),
                _ => {
                    let end = format!("event: end\ndata: {RUN}\n\nevent: log\ndata: \"never\"\n\n");
                    whole(200, kind, end)
                }
            }
        }
    }))
    .await;
    let events: Vec<_> = client(&url).follow_logs("0123", LogQuery::default()).try_collect().await.unwrap();
    let text = |text: &str, offset| LogEvent::Text { text: text.to_owned(), offset: Some(offset) };
    assert_eq!(events[..2], [text("one\n", 4), text("안\n", 8)]);
    assert!(matches!(&events[2], LogEvent::End(run) if run.name == name("train")));
    assert_eq!(events.len(), 3);
    let asked = asked.lock().unwrap();
    assert_eq!(*asked, [None, Some("4".to_owned()), Some("4".to_owned()), Some("8".to_owned())]);
}

#[tokio::test]
async fn following_ends_at_once_where_waiting_is_no_use() {
    let url =
        serve(handler(|_| async { problem(&Problem::new(Code::NotFound, "no run `0123`").next("dure ps")) })).await;
    let events: Vec<_> = client(&url).follow_logs("0123", LogQuery::default()).collect().await;
    assert_eq!(events.len(), 1);
    let error = events[0].as_ref().unwrap_err();
    assert!(error.is(Code::NotFound));
    assert_eq!(error.next(), Some("dure ps"));
    assert_eq!(error.to_string(), "no run `0123` (E0201)");
}

#[tokio::test]
async fn following_gives_up_when_the_patience_is_over() {
    let times = Arc::new(Mutex::new(0));
    let url = serve(handler(move |_| {
        let mut times = times.lock().unwrap();
        *times += 1;
        let first = *times == 1;
        async move {
            if first {
                pieces("text/event-stream", vec![b"event: log\nid: 1\ndata: \"x\"\n\n"], true)
            } else {
                problem(&Problem::new(Code::StoreBusy, "busy"))
            }
        }
    }))
    .await;
    let client = client(&url).with_patience(Duration::from_millis(300));
    let events: Vec<_> = client.follow_logs("0123", LogQuery::default()).collect().await;
    assert_eq!(events.len(), 2);
    assert!(events[1].as_ref().unwrap_err().is(Code::StoreBusy));
}

#[tokio::test]
async fn nobody_there_is_said_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&url).get_identity().await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.next(), Some("start it: dure up"));
    assert!(error.to_string().contains("refused"), "{error}");
    let events: Vec<_> = client(&url).follow_events(Default::default()).collect().await;
    assert!(matches!(events.as_slice(), [Err(ClientError::Unreachable { .. })]));
}

#[tokio::test]
async fn answers_that_are_not_dures_are_told_apart() {
    let url = serve(handler(|request| async move {
        match request.uri().path() {
            "/api/v1/me" => whole(200, "text/html", "<html>"),
            "/api/v1/nodes" => Response::builder()
                .status(302)
                .header("Location", "http://127.0.0.1:1/")
                .body(Full::default().map_err(|never| match never {}).boxed())
                .unwrap(),
            _ => whole(500, "text/plain", "\u{1b}[31moops"),
        }
    }))
    .await;
    let client = client(&url);
    for error in [
        client.get_identity().await.unwrap_err(),
        client.list_nodes().await.unwrap_err(),
        client.list_users().await.unwrap_err(),
    ] {
        assert!(matches!(&error, ClientError::Protocol { .. }), "{error:?}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
}

#[tokio::test]
async fn requests_carry_token_method_path_query_and_body() {
    let url = serve(handler(|request| async move {
        assert_eq!(request.headers()["Authorization"], "Bearer secret");
        let line = format!("{} {}", request.method(), request.uri());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let seen = format!("{line} {}", String::from_utf8_lossy(&body));
        problem(&Problem::new(Code::Forbidden, seen.trim()))
    }))
    .await;
    let client = client(&url);
    let query = RunQuery { state: Some("active".to_owned()), limit: Some(5), ..RunQuery::default() };
    let role = SetMembership { role: dure_types::user::Role::Viewer };
    let latest = Selector::latest();
    let seen = [
        client.list_runs(&query).await.unwrap_err(),
        client.set_member(&name("kim"), &role).await.unwrap_err(),
        client.stop_run("0123").await.unwrap_err(),
        client.revoke_token("a/b").await.unwrap_err(),
        client.get_dataset_version(&name("digits"), &latest).await.unwrap_err(),
        client.predict(&name("other"), &name("digits"), &serde_json::json!([[1.5]])).await.unwrap_err(),
        client.shut_down().await.unwrap_err(),
    ];
    let seen: Vec<_> = seen.iter().map(ToString::to_string).collect();
    assert_eq!(
        seen,
        [
            "GET /api/v1/projects/team/runs?state=active&limit=5 (E0502)",
            "PUT /api/v1/projects/team/members/kim {\"role\":\"viewer\"} (E0502)",
            "POST /api/v1/projects/team/runs/0123/stop (E0502)",
            "DELETE /api/v1/tokens/a%2Fb (E0502)",
            "GET /api/v1/projects/team/datasets/digits/versions/latest (E0502)",
            "POST /s/other/digits/predict [[1.5]] (E0502)",
            "POST /api/v1/shutdown (E0502)",
        ]
    );
}

#[tokio::test]
async fn lists_are_read_page_by_page_and_never_round() {
    let items: Vec<u32> = pages(|cursor| async move {
        Ok(match cursor.as_deref() {
            None => Page { items: vec![1, 2], next: Some("a".to_owned()) },
            Some("a") => Page { items: vec![3], next: Some("b".to_owned()) },
            _ => Page { items: vec![4], next: Some("b".to_owned()) },
        })
    })
    .try_collect()
    .await
    .unwrap();
    assert_eq!(items, [1, 2, 3, 4]);
}

/// What a project has, as the control plane keeps it.
#[derive(Default)]
struct Blobs {
    bytes: HashMap<Digest, Vec<u8>>,
    sizes: HashMap<Digest, u64>,
    parts: Vec<(u64, usize)>,
    questions: usize,
    manifest: Option<Manifest>,
}

impl Blobs {
    fn is_whole(&self, digest: &Digest) -> bool {
        self.bytes.get(digest).is_some_and(|bytes| Some(&(bytes.len() as u64)) == self.sizes.get(digest))
    }
}

async fn answer_blobs(blobs: Arc<Mutex<Blobs>>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let query: HashMap<String, u64> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.parse().unwrap())))
        .collect();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut blobs = blobs.lock().unwrap();
    if path.ends_with("/blobs/missing") {
        blobs.questions += 1;
        let asked: MissingRequest = serde_json::from_slice(&body).unwrap();
        assert!(asked.digests.len() <= 1000);
        let missing = asked
            .digests
            .into_iter()
            .filter(|digest| !blobs.is_whole(digest))
            .map(|digest| MissingBlob { offset: blobs.bytes.get(&digest).map_or(0, Vec::len) as u64, digest })
            .collect();
        return json(&MissingResponse { missing });
    }
    if path.ends_with("/manifests") {
        let manifest: Manifest = serde_json::from_slice(&body).unwrap();
        assert!(manifest.files.iter().all(|file| blobs.is_whole(&file.digest)));
        let created =
            ManifestCreated { digest: manifest.digest(), files: manifest.files.len() as u64, bytes: manifest.size() };
        blobs.manifest = Some(manifest);
        return json(&created);
    }
    let digest: Digest = path.rsplit('/').next().unwrap().parse().unwrap();
    blobs.parts.push((query["offset"], body.len()));
    // The third part arrives only by half, and nobody says so.
    let broken = blobs.parts.len() == 3;
    let bytes = blobs.bytes.entry(digest.clone()).or_default();
    assert_eq!(query["offset"], bytes.len() as u64, "a part goes on where the server stands");
    bytes.extend_from_slice(if broken { &body[..body.len() / 2] } else { &body });
    let offset = bytes.len() as u64;
    blobs.sizes.insert(digest.clone(), query["size"]);
    if broken {
        return problem(&Problem::new(Code::StoreBusy, "restarting"));
    }
    let complete = offset == query["size"];
    if complete {
        assert_eq!(Digest::of(&blobs.bytes[&digest]), digest);
    }
    json(&UploadStatus { offset, complete })
}

fn entry(path: &str, digest: &Digest, size: u64) -> FileEntry {
    FileEntry { path: path.to_owned(), digest: digest.clone(), size, executable: false }
}

#[tokio::test]
async fn an_upload_sends_only_what_is_missing_and_goes_on_where_it_broke() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["large", "again", "there", "empty"].map(|name| folder.path().join(name));
    let large: Vec<u8> = (0..(20_u32 << 20)).map(|byte| (byte % 251) as u8).collect();
    for (path, content) in paths.iter().zip([large.as_slice(), &large, b"known", b""]) {
        fs::write(path, content).unwrap();
    }
    let hashes = hash_files(paths.to_vec()).await.unwrap();
    assert_eq!(hashes[0], (Digest::of(&large), large.len() as u64));
    let files: Vec<_> = paths
        .iter()
        .zip(&hashes)
        .map(|(path, (digest, size))| (entry(path.file_name().unwrap().to_str().unwrap(), digest, *size), path.clone()))
        .collect();

    let blobs = Arc::new(Mutex::new(Blobs::default()));
    {
        let mut blobs = blobs.lock().unwrap();
        blobs.bytes.insert(hashes[2].0.clone(), b"known".to_vec());
        blobs.sizes.insert(hashes[2].0.clone(), 5);
        // An upload that was interrupted before had brought this much.
        blobs.bytes.insert(hashes[0].0.clone(), large[..1000].to_vec());
        blobs.sizes.insert(hashes[0].0.clone(), large.len() as u64);
    }
    let server = Arc::clone(&blobs);
    let url = serve(handler(move |request| answer_blobs(Arc::clone(&server), request))).await;
    let told = Mutex::new(0);
    let digest = client(&url).upload(files.clone(), |bytes| *told.lock().unwrap() += bytes).await.unwrap();

    let all: u64 = hashes.iter().map(|(_, size)| size).sum();
    assert_eq!(*told.lock().unwrap(), all, "progress tells of every byte once");
    let sent = {
        let blobs = blobs.lock().unwrap();
        assert_eq!(blobs.manifest.as_ref().unwrap().digest(), digest);
        assert_eq!(blobs.bytes[&hashes[0].0], large);
        assert_eq!(blobs.questions, 2, "once at first, once after the break");
        assert!(blobs.parts.iter().all(|(_, length)| *length <= 8 << 20));
        blobs.parts.len()
    };
    let again = client(&url).upload(files, |_| ()).await.unwrap();
    assert_eq!(again, digest);
    assert_eq!(blobs.lock().unwrap().parts.len(), sent, "the second time nothing is sent");
}

#[tokio::test]
async fn a_file_that_shrinks_or_goes_while_it_is_uploaded_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"short").unwrap();
    let url = serve(handler({
        let blobs = Arc::new(Mutex::new(Blobs::default()));
        move |request| answer_blobs(Arc::clone(&blobs), request)
    }))
    .await;
    let digest = Digest::of(b"what it was");
    let error = client(&url).upload(vec![(entry("a", &digest, 11), path.clone())], |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("changed while it was uploaded"), "{error}");
    let gone = folder.path().join("gone");
    let error = client(&url).upload(vec![(entry("a", &digest, 11), gone.clone())], |_| ()).await.unwrap_err();
    assert!(matches!(&error, ClientError::File { path, .. } if *path == gone), "{error:?}");
    let error = client(&url).upload(vec![(entry("../a", &digest, 11), gone)], |_| ()).await.unwrap_err();
    assert!(matches!(&error, ClientError::Input(_)), "{error:?}");
}

#[tokio::test]
async fn a_download_takes_its_name_only_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model.onnx");
    fs::write(&target, b"before").unwrap();
    let url = serve(handler(|request| async move {
        let broken = request.uri().path().contains("/versions/1/");
        pieces("application/octet-stream", vec![b"on", b"nx"], broken)
    }))
    .await;
    let client = client(&url);
    let digits = name("digits");
    let error = client.download_model(&digits, &Selector::Version(1), &target, |_| ()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert_eq!(fs::read(&target).unwrap(), b"before");
    let told = Mutex::new(0);
    let bytes = client.download_model(&digits, &Selector::Version(2), &target, |bytes| *told.lock().unwrap() += bytes);
    assert_eq!(bytes.await.unwrap(), 4);
    assert_eq!((fs::read(&target).unwrap().as_slice(), *told.lock().unwrap()), (b"onnx".as_slice(), 4));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}
