//! `leno ca signer`: holds a key and signs for a control plane on this machine. A reference for what an HSM or a KMS would be put behind.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leno_certs::{Key, Zeroizing};
use leno_control_plane::ca::signer::{read_frame, write_frame};

use crate::failure::{Exit, Failure};
use crate::output;

/// Requests at a time; more are turned away.
const MOST_AT_ONCE: usize = 64;
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which key, and where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The key, ECDSA P-256, PKCS#8, PEM; readable for its owner alone
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where to listen; the socket is for this user alone
    #[arg(long, value_name = "SOCKET")]
    pub socket: PathBuf,
}

/// Signs until SIGTERM or SIGINT.
///
/// # Errors
/// The key cannot be read, or the socket cannot be made.
pub async fn run(args: &Args) -> Result<(), Failure> {
    let key = Arc::new(key(&args.key)?);
    let listener = bind(&args.socket).map_err(|why| {
        let what = format!("--socket {}: {why}", args.socket.display());
        Failure::new(Exit::Failed, what, "give a path in a folder that this user may write to")
    })?;
    let at_once = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (key, at_once) = (key.clone(), at_once.clone());
            if at_once.fetch_add(1, Ordering::AcqRel) >= MOST_AT_ONCE {
                at_once.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            std::thread::spawn(move || {
                if let Err(error) = answer(&key, stream) {
                    eprintln!("a request was not answered: {error}");
                }
                at_once.fetch_sub(1, Ordering::AcqRel);
            });
        }
    });
    output::line(format!("ready signer={}", args.socket.display()))?;
    stopped().await;
    let _ = std::fs::remove_file(&args.socket);
    Ok(())
}

fn key(path: &Path) -> Result<Key, Failure> {
    let failed = |why: String| {
        let todo = "give an ECDSA P-256 key in PKCS#8 and PEM, mode 0600; `openssl pkcs8 -topk8 -nocrypt` converts one";
        Failure::new(Exit::Config, format!("--key {}: {why}", path.display()), todo)
    };
    let mode = std::fs::metadata(path).map_err(|why| failed(why.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(failed(format!("others may read it (mode {:o})", mode & 0o777)));
    }
    let text = Zeroizing::new(std::fs::read(path).map_err(|why| failed(why.to_string()))?);
    Key::from_pem(&text).map_err(|why| failed(why.to_string()))
}

/// A socket that an earlier life has left is replaced; anything else at the place is not.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() && UnixStream::connect(path).is_err() => std::fs::remove_file(path)?,
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn answer(key: &Key, mut stream: UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let message = read_frame(&mut stream)?;
    let answer = match key.sign(&message) {
        Ok(signature) => [&[0], signature.as_slice()].concat(),
        Err(why) => [&[1], why.to_string().as_bytes()].concat(),
    };
    write_frame(&mut stream, &answer)
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_its_owners_alone_and_a_file_in_its_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signer.sock");
        drop(bind(&path).unwrap());
        let again = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(bind(&path).is_err(), "somebody listens there");
        drop(again);
        let file = dir.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        assert!(bind(&file).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn a_frame_that_is_too_long_or_torn_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let listener = bind(&dir.path().join("s")).unwrap();
        let key = Key::generate().unwrap();
        for bytes in [&[0xff; 8][..], &[0, 0, 0, 9, 1]] {
            let mut client = UnixStream::connect(dir.path().join("s")).unwrap();
            io::Write::write_all(&mut client, bytes).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(answer(&key, listener.accept().unwrap().0).is_err());
        }
    }
}
