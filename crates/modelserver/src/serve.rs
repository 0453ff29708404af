//! Listens, loads the model, answers until told to stop.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use hyper::{
    rt::{Read, Write},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

use crate::{Config, Listen, ModelError, body::Budget, routes::App, runtime::Model};

/// What requests that are being answered get when the server is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `shutdown` ends, on a runtime of its own with one thread for all connections: the least CPU per request.
/// Not to be called inside another runtime; there, use [`serve`].
pub fn serve_blocking(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ModelError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ModelError::Start(error.to_string()))?;
    let served = runtime.block_on(serve(config, shutdown));
    // A load or an inference that outlasts the grace is not waited for.
    runtime.shutdown_background();
    served
}

/// Serves until `shutdown` ends.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ModelError> {
    Server::bind(config).await?.serve(shutdown).await
}

/// A server that has its address, and its model not yet.
pub struct Server {
    listener: Listener,
    app: Arc<App>,
}

impl Server {
    pub async fn bind(config: Config) -> Result<Self, ModelError> {
        let listener = Listener::bind(&config.listen)
            .await
            .map_err(|source| ModelError::Listen { address: config.listen.to_string(), source })?;
        Ok(Self {
            listener,
            app: Arc::new(App { budget: Budget::new(config.max_body), model: OnceLock::new(), config }),
        })
    }

    /// With the port that the system chose, where it was asked to.
    pub fn address(&self) -> Listen {
        self.listener.address().unwrap_or_else(|| self.app.config.listen.clone())
    }

    /// Loads the model and serves until `shutdown` ends; until it is loaded, `/v2/health/ready` answers 503.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), ModelError> {
        let address = self.address();
        let Self { listener, app } = self;
        let (stop, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let loading = Arc::clone(&app);
        let mut load = tokio::task::spawn_blocking(move || Model::load(&loading.config));
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                loaded = &mut load, if app.model.get().is_none() => {
                    let model = loaded.map_err(|error| ModelError::Start(error.to_string()))??;
                    let summary = model.summary.clone();
                    let _first = app.model.set(model);
                    eprintln!("serving {}@{} on {address}: {}", app.config.name, app.config.version, summary);
                }
                accepted = listener.accept() => match accepted {
                    Ok(Stream::Tcp(stream)) => { connections.spawn(connection(TokioIo::new(stream), Arc::clone(&app), stopped.clone())); }
                    Ok(Stream::Unix(stream)) => { connections.spawn(connection(TokioIo::new(stream), Arc::clone(&app), stopped.clone())); }
                    Err(error) => {
                        // Out of file descriptors, mostly: let some connections end before the next try.
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        let _receivers = stop.send(());
        let _in_time = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
        Ok(())
    }
}

async fn connection<IO: Read + Write + Unpin>(io: IO, app: Arc<App>, mut stopped: watch::Receiver<()>) {
    let service = service_fn(move |request| Arc::clone(&app).handle(request));
    let mut connection = pin!(http1::Builder::new().pipeline_flush(true).serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(UnixStream),
}

impl Listener {
    async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Listen::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }

    fn address(&self) -> Option<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(Listen::Tcp),
            Self::Unix(_, path) => Some(Listen::Unix(path.clone())),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _gone = fs::remove_file(path);
        }
    }
}

/// A socket that nobody listens on is left over from a server that was killed. Anything else stays.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is not a socket"))
        }
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
        },
    }
}
