//! Content on disk: interrupted uploads, other tenants, copies that cannot reach the original, links that lead away.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use dure_store::{Blobs, StoreError};
use dure_types::{Digest, FileEntry, Manifest, Timestamp};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::{name, runtime};

/// Gives the test a folder, and blobs in its subfolder.
fn with_blobs<F: Future<Output = ()>>(test: impl FnOnce(Blobs, PathBuf) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&folder.path().join("blobs"), Timestamp::from_micros(0)).unwrap();
    runtime().block_on(test(blobs, folder.path().to_owned()));
}

fn part(content: &[u8]) -> impl futures_util::Stream<Item = Result<Bytes, String>> + Send + use<> {
    stream::iter([Ok(Bytes::copy_from_slice(content))])
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|number| (number * 7 % 251) as u8).collect()
}

#[test]
fn an_upload_that_breaks_off_goes_on_where_it_stopped() {
    with_blobs(|blobs, folder| async move {
        let content = content(5 << 20);
        let (digest, size, vision) = (Digest::of(&content), content.len() as u64, name("vision"));
        // The sender says that it broke off.
        let broken = stream::iter([Ok(Bytes::copy_from_slice(&content[..1000])), Err("reset".to_owned())]);
        let outcome = blobs.append(&vision, &digest, 0, size, broken).await;
        assert!(matches!(&outcome, Err(error @ StoreError::Interrupted(_)) if error.is_retryable()), "{outcome:?}");
        assert_eq!(blobs.partial_offset(&vision, &digest).await, 1000);
        // Whoever waits for the sender is dropped in the middle, as when a connection closes.
        let (sender, receiver) = mpsc::channel(1);
        let silent = stream::unfold(receiver, |mut receiver: mpsc::Receiver<Bytes>| async move {
            Some((Ok::<_, String>(receiver.recv().await?), receiver))
        });
        let upload = tokio::spawn({
            let (blobs, vision, digest) = (blobs.clone(), vision.clone(), digest.clone());
            async move { blobs.append(&vision, &digest, 1000, size, silent).await }
        });
        for chunk in content[1000..3 << 20].chunks(1 << 20) {
            sender.send(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        // Taken out of the channel, so it waits for more; meanwhile nobody else may write there.
        sender.reserve().await.unwrap();
        let second = blobs.append(&vision, &digest, 1000, size, part(b"x")).await;
        assert!(matches!(second, Err(StoreError::Busy)), "{second:?}");
        upload.abort();
        assert!(upload.await.unwrap_err().is_cancelled());

        // Opened anew, as after a kill.
        drop(blobs);
        let blobs = Blobs::open(&folder.join("blobs"), Timestamp::from_micros(0)).unwrap();
        let offset = blobs.partial_offset(&vision, &digest).await;
        assert!(offset >= 1000 && offset < size, "{offset}");
        let wrong = blobs.append(&vision, &digest, offset + 1, size, part(b"x")).await;
        assert!(matches!(wrong, Err(StoreError::BlobOffset { expected }) if expected == offset), "{wrong:?}");
        assert!(!blobs.contains(&digest).await);
        let status = blobs.append(&vision, &digest, offset, size, part(&content[offset as usize..])).await.unwrap();
        assert!(status.complete && status.offset == size);
        assert_eq!(fs::read(blobs.path(&digest)).unwrap(), content);
        assert_eq!(fs::metadata(blobs.path(&digest)).unwrap().permissions().mode() & 0o777, 0o444);
        assert_eq!(files_below(&folder.join("blobs")).len(), 1, "nothing else is left");
    });
}

#[test]
fn content_that_is_not_what_it_says_never_counts() {
    with_blobs(|blobs, folder| async move {
        let (digest, vision) = (Digest::of(b"right"), name("vision"));
        let wrong = blobs.append(&vision, &digest, 0, 5, part(b"wrong")).await;
        assert!(matches!(wrong, Err(StoreError::BlobMismatch { .. })), "{wrong:?}");
        // In two parts, where the first has to be read again.
        assert!(!blobs.append(&vision, &digest, 0, 5, part(b"wr")).await.unwrap().complete);
        let wrong = blobs.append(&vision, &digest, 2, 5, part(b"ong")).await;
        assert!(matches!(wrong, Err(StoreError::BlobMismatch { .. })), "{wrong:?}");
        let long = blobs.append(&vision, &digest, 0, 5, part(b"right and more")).await;
        assert!(matches!(long, Err(StoreError::Invalid(_))), "{long:?}");
        assert!(!blobs.contains(&digest).await);
        assert!(files_below(&folder).is_empty());
        assert!(blobs.append(&vision, &digest, 0, 5, part(b"right")).await.unwrap().complete);
        let empty = Digest::of(b"");
        assert!(blobs.append(&vision, &empty, 0, 0, part(b"")).await.unwrap().complete);
        assert_eq!(blobs.size(&empty).await.unwrap(), 0);
    });
}

#[test]
fn uploads_of_two_projects_do_not_meet() {
    with_blobs(|blobs, _folder| async move {
        let (digest, vision, speech) = (Digest::of(b"secret"), name("vision"), name("speech"));
        assert_eq!(blobs.append(&vision, &digest, 0, 6, part(b"sec")).await.unwrap().offset, 3);
        assert_eq!(blobs.partial_offset(&speech, &digest).await, 0);
        assert_eq!(blobs.append(&speech, &digest, 0, 6, part(b"xx")).await.unwrap().offset, 2);
        assert!(blobs.append(&vision, &digest, 3, 6, part(b"ret")).await.unwrap().complete);
        // That somebody else has it spares nobody from showing that they have it too.
        let guess = blobs.append(&speech, &digest, 2, 6, part(b"xxxx")).await;
        assert!(matches!(guess, Err(StoreError::BlobMismatch { .. })), "{guess:?}");
        assert_eq!(blobs.append(&speech, &digest, 0, 6, part(b"sec")).await.unwrap().offset, 3);
        assert!(blobs.append(&speech, &digest, 3, 6, part(b"ret")).await.unwrap().complete);
    });
}

#[test]
fn uploads_that_nobody_goes_on_with_are_cleared_after_a_day() {
    with_blobs(|blobs, folder| async move {
        let (digest, vision) = (Digest::of(b"long"), name("vision"));
        blobs.append(&vision, &digest, 0, 4, part(b"lo")).await.unwrap();
        let root = folder.join("blobs");
        fs::write(root.join("making/left"), b"by a kill").unwrap();
        let written = fs::metadata(&files_below(&root.join("partial"))[0]).unwrap().modified().unwrap();
        let later = |hours: u64| {
            let since = written.duration_since(SystemTime::UNIX_EPOCH).unwrap() + Duration::from_secs(hours * 3600);
            Timestamp::from_micros(since.as_micros() as i64)
        };
        let blobs = Blobs::open(&root, later(23)).unwrap();
        assert_eq!(blobs.partial_offset(&vision, &digest).await, 2);
        let blobs = Blobs::open(&root, later(25)).unwrap();
        assert_eq!(blobs.partial_offset(&vision, &digest).await, 0);
        assert!(files_below(&root).is_empty());
    });
}

#[test]
fn a_copy_is_checked_and_cannot_reach_the_original() {
    with_blobs(|blobs, folder| async move {
        let (digest, size) = blobs.put_bytes(Bytes::from_static(b"original")).await.unwrap();
        assert_eq!((digest.clone(), size), (Digest::of(b"original"), 8));
        let to = folder.join("copy");
        blobs.copy_to(&digest, &to, true).await.unwrap();
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o100, 0o100);
        fs::write(&to, b"changed!").unwrap();
        assert_eq!(fs::read(blobs.path(&digest)).unwrap(), b"original");
        assert!(blobs.copy_to(&digest, &to, false).await.is_err(), "it would overwrite");
        let missing = blobs.copy_to(&Digest::of(b"no"), &folder.join("no"), false).await;
        assert!(matches!(missing, Err(StoreError::NotFound { .. })) && !folder.join("no").exists());

        fs::set_permissions(blobs.path(&digest), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(blobs.path(&digest), b"0riginal").unwrap();
        let broken = folder.join("broken");
        let outcome = blobs.copy_to(&digest, &broken, false).await;
        assert!(matches!(outcome, Err(StoreError::Corrupt(_))) && !broken.exists(), "{outcome:?}");
    });
}

#[test]
fn a_folder_is_taken_in_and_links_in_it_are_refused() {
    with_blobs(|blobs, folder| async move {
        let root = folder.join("output");
        fs::create_dir_all(root.join("plots/more")).unwrap();
        fs::write(root.join("model.onnx"), b"model").unwrap();
        fs::write(root.join("plots/more/ä b.txt"), b"text").unwrap();
        fs::set_permissions(root.join("model.onnx"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.join("secret"), b"secret").unwrap();
        let paths = |manifest: Manifest| manifest.files.into_iter().map(|file| file.path).collect::<Vec<_>>();
        let all = blobs.put_tree(&root, ".").await.unwrap();
        assert!(all.files[0].executable && !all.files[1].executable);
        assert_eq!(paths(all), ["model.onnx", "plots/more/ä b.txt"]);
        assert_eq!(paths(blobs.put_tree(&root, "model.onnx").await.unwrap()), ["model.onnx"]);
        assert_eq!(paths(blobs.put_tree(&root, "./plots/").await.unwrap()), ["more/ä b.txt"]);
        assert_eq!(paths(blobs.put_tree(&root, "plots/more/ä b.txt").await.unwrap()), ["ä b.txt"]);

        symlink(folder.join("secret"), root.join("plots/link")).unwrap();
        symlink(&folder, root.join("up")).unwrap();
        make_pipe(&root.join("pipe"));
        for bad in [".", "plots", "plots/link", "up", "up/secret", "pipe"] {
            let outcome = blobs.put_tree(&root, bad).await;
            assert!(matches!(outcome, Err(StoreError::Invalid(_))), "{bad}: {outcome:?}");
        }
        for bad in ["../secret", "/etc/passwd", "missing", "model.onnx/x"] {
            assert!(blobs.put_tree(&root, bad).await.is_err(), "{bad}");
        }
        assert!(blobs.put_file(&root.join("plots/link")).await.is_err());
        assert!(blobs.put_file(&root.join("pipe")).await.is_err());
        assert!(!blobs.contains(&Digest::of(b"secret")).await);
        assert_eq!(blobs.put_file(&root.join("model.onnx")).await.unwrap().0, Digest::of(b"model"));
        assert!(files_below(&folder.join("blobs/making")).is_empty());
    });
}

fn make_pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn a_download_is_a_zip_of_all_files_and_breaks_off_where_one_is_not_right() {
    with_blobs(|blobs, _folder| async move {
        let big = content(3 << 20);
        let mut files = Vec::new();
        for (path, content) in [("data/big.bin", big.clone()), ("ä.txt", b"text".to_vec()), ("empty", Vec::new())] {
            let (digest, size) = blobs.put_bytes(content.into()).await.unwrap();
            files.push(FileEntry { path: path.to_owned(), digest, size, executable: path == "empty" });
        }
        let manifest = Manifest::new(files).unwrap();
        let mut whole = Vec::new();
        let mut pieces = std::pin::pin!(blobs.zip_manifest(&manifest));
        while let Some(piece) = pieces.next().await {
            whole.extend_from_slice(&piece.unwrap());
        }
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(whole)).unwrap();
        assert_eq!(archive.len(), 3);
        let mut read = Vec::new();
        std::io::copy(&mut archive.by_name("data/big.bin").unwrap(), &mut read).unwrap();
        assert!(read == big);
        assert_eq!(archive.by_name("empty").unwrap().unix_mode().unwrap() & 0o777, 0o755);
        assert_eq!(archive.by_name("ä.txt").unwrap().size(), 4);

        fs::remove_file(blobs.path(&Digest::of(b"text"))).unwrap();
        let pieces: Vec<_> = blobs.zip_manifest(&manifest).collect().await;
        assert!(pieces.last().unwrap().is_err());
    });
}
