//! Downloads: a manifest's files as a zip, made while it is sent and never whole in memory.

use std::{
    fs::File,
    io::{self, Write},
};

use bytes::Bytes;
use dure_types::{FileEntry, Manifest};
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{Blobs, CHUNK, hash};

/// How many pieces lie between the disk and a slow receiver.
const PIECES: usize = 4;
const PIECE: usize = CHUNK / 4;

impl Blobs {
    /// The bytes of a zip file. A file that is missing or has changed on disk breaks the stream off with an error.
    pub fn zip_manifest(&self, manifest: &Manifest) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static + use<> {
        let (sender, receiver) = mpsc::channel(PIECES);
        let (blobs, files) = (self.clone(), manifest.files.clone());
        // It ends by itself when the receiver goes away: the next piece cannot be sent.
        tokio::task::spawn_blocking(move || {
            let mut pieces = Pieces { waiting: Vec::with_capacity(PIECE), sender };
            if let Err(error) = blobs.write_zip(&files, &mut pieces) {
                // Nobody to tell where the receiver is gone.
                let _ = pieces.sender.blocking_send(Err(error));
            }
        });
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
    }

    fn write_zip(&self, files: &[FileEntry], pieces: &mut Pieces) -> io::Result<()> {
        let mut zip = ZipWriter::new_stream(&mut *pieces);
        for entry in files {
            // Deflated and not stored: only then can a reader that gets it as a stream see where a file ends.
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Deflated)
                .compression_level(Some(1))
                .unix_permissions(if entry.executable { 0o755 } else { 0o644 })
                .large_file(entry.size >= u64::from(u32::MAX) / 2);
            zip.start_file(entry.path.as_str(), options)?;
            let (found, _) = hash(&mut File::open(self.path(&entry.digest))?, &mut zip)?;
            if found != entry.digest {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("`{}` has changed on disk", entry.path),
                ));
            }
        }
        zip.finish()?;
        pieces.flush()
    }
}

/// Gathers what the zip writes in small bits.
struct Pieces {
    waiting: Vec<u8>,
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(content);
        if self.waiting.len() >= PIECE {
            self.flush()?;
        }
        Ok(content.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.waiting, Vec::with_capacity(PIECE));
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
