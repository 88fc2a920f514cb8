//! The kind `bulk`: one answer without an end a connection, carried as bytes. The figure is megabytes for a second of the pair's processor
//! time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::comparison::Comparison;
use crate::contestant::{self, Carries};
use crate::cpu;
use crate::findings::Findings;
use crate::line_up::{Besides, LineUp, Run};

/// Where the server has an answer without an end.
const PATH: &str = "/without-end";

/// How the kind `bulk` is run.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// Streams at a time; may be given again
    #[arg(long = "streams", default_values_t = [1, 8])]
    streams: Vec<usize>,
}

/// Measures.
pub fn run(settings: &Settings) -> Result<Findings> {
    let cast = settings.run.cast(Carries::Tcp, Besides::default())?;
    let mut findings = Findings::of("bulk", cast.peers.clone());
    let line_up = settings.run.line_up_before(serve(settings.run.load_core)?, &cast, &cast.entrants)?;
    line_up.answers()?;
    for streams in &settings.streams {
        compare(settings, &line_up, *streams)?.found(&mut findings);
    }
    Ok(findings)
}

fn compare(settings: &Settings, line_up: &LineUp, streams: usize) -> Result<Comparison> {
    let title = format!("bulk, {streams} streams");
    let unit = "MB per proxy CPU second";
    Comparison::measure(title, unit, 0, settings.run.rounds, line_up.names(), |n| {
        let contestant = &line_up.contestants[n];
        let readers: Vec<_> = (0..streams).map(|_| open(contestant.target)).collect::<Result<_>>()?;
        let (bytes, used) = contestant.pays(|| read_all(&settings.run, readers))?;
        Ok(bytes as f64 / 1e6 / used.as_secs_f64())
    })
}

fn read_all(run: &Run, readers: Vec<TcpStream>) -> Result<u64> {
    let (core, end) = (run.load_core, Instant::now() + run.turn);
    let reading: Vec<_> =
        readers.into_iter().map(|stream| std::thread::spawn(move || read(core, stream, end))).collect();
    let mut bytes = 0;
    for one in reading {
        bytes += one.join().ok().context("a reader failed")??;
    }
    Ok(bytes)
}

fn open(target: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET {PATH} HTTP/1.1\r\nHost: {}\r\n\r\n", contestant::HOST).as_bytes())?;
    // The head, or the first of it.
    ensure!(stream.read(&mut [0; 1])? == 1, "nothing is answered");
    Ok(stream)
}

fn read(core: usize, mut stream: TcpStream, end: Instant) -> Result<u64> {
    cpu::pin_this_thread(core)?;
    let (mut buffer, mut bytes) = (vec![0; 256 << 10], 0);
    while Instant::now() < end {
        let n = stream.read(&mut buffer)?;
        ensure!(n > 0, "the stream ended");
        bytes += n as u64;
    }
    Ok(bytes)
}

/// A server of this program's own: 128 bytes, or bytes without an end.
fn serve(core: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(core, stream));
        }
    });
    Ok(address)
}

/// One connection, until its client goes.
fn answer(core: usize, stream: TcpStream) -> Result<()> {
    cpu::pin_this_thread(core)?;
    let mut writer = stream.try_clone()?;
    let (mut asked, piece) = (BufReader::new(stream).lines(), vec![b'.'; 256 << 10]);
    while let Some(line) = asked.next().transpose()? {
        // The rest of the head says nothing that is heeded.
        while asked.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        if line.contains(PATH) {
            writer.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                writer.write_all(&piece)?;
            }
        }
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n{}", ".".repeat(128))?;
    }
    Ok(())
}
