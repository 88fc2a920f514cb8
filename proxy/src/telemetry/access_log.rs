//! The access log: one line a request, as JSON (fields as in OpenTelemetry's log model) or as text, written by a thread of its own. A disk
//! that is slow or full costs a request nothing: what does not fit the queue is dropped and counted.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use leno_runtime::metrics::{Counter, Registry};
use serde_json::{Map, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::record::{Record, Value};

/// Lines that wait to be written.
const MOST_WAITING: usize = 4_096;
/// What is written at once.
const MOST_AT_ONCE: usize = 256;
/// The writer waits so long after it wrote, so that it is not woken for each request.
const GATHER: Duration = Duration::from_millis(20);

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    Json,
    Text,
}

/// Where lines go: a file that was opened before this process gave up to open any, or standard error.
#[derive(Debug, Clone, Default)]
pub struct LogFile(pub Option<Arc<File>>);

impl LogFile {
    fn write(&self, lines: &[u8]) -> io::Result<()> {
        match &self.0 {
            Some(file) => (&**file).write_all(lines),
            None => io::stderr().write_all(lines),
        }
    }
}

/// The log; clones share it. Its thread begins with the first line.
#[derive(Debug, Clone)]
pub struct AccessLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    form: LogForm,
    file: LogFile,
    queue: OnceLock<Option<SyncSender<Arc<Record>>>>,
    written: Counter,
    dropped: Counter,
}

impl AccessLog {
    /// A log of this form.
    pub fn new(form: LogForm, file: LogFile, registry: &Registry) -> Self {
        let counter = |result| registry.counter("leno_access_log_lines_total", &[("result", result)]);
        let (written, dropped) = (counter("written"), counter("dropped"));
        Self(Arc::new(Inner { form, file, queue: OnceLock::new(), written, dropped }))
    }

    /// Has a request written down, some time.
    pub fn note(&self, record: Arc<Record>) {
        let queue = self.0.queue.get_or_init(|| self.start());
        if queue.as_ref().is_none_or(|queue| queue.try_send(record).is_err()) {
            self.0.dropped.inc();
        }
    }

    /// None: the system gives no thread.
    fn start(&self) -> Option<SyncSender<Arc<Record>>> {
        let (sender, receiver) = sync_channel(MOST_WAITING);
        let (form, file) = (self.0.form, self.0.file.clone());
        let (written, dropped) = (self.0.written.clone(), self.0.dropped.clone());
        let run = move || write(&receiver, form, &file, &written, &dropped);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(run).ok().map(|_| sender)
    }
}

fn write(queue: &Receiver<Arc<Record>>, form: LogForm, file: &LogFile, written: &Counter, dropped: &Counter) {
    let mut said = false;
    while let Ok(first) = queue.recv() {
        let (mut lines, mut count) = (Vec::new(), 0);
        for record in std::iter::once(first).chain(queue.try_iter()).take(MOST_AT_ONCE) {
            lines.extend_from_slice(line(&record, form).as_bytes());
            count += 1;
        }
        match file.write(&lines) {
            Ok(()) => written.add(count),
            Err(error) => {
                dropped.add(count);
                if !std::mem::replace(&mut said, true) {
                    tracing::error!(%error, "the access log cannot be written; lines are dropped");
                }
            }
        }
        std::thread::sleep(GATHER);
    }
}

/// One line and its end.
fn line(record: &Record, form: LogForm) -> String {
    let at = OffsetDateTime::from(record.began).format(&Rfc3339).unwrap_or_default();
    let (severity, number) = if record.is_failure() { ("ERROR", 17) } else { ("INFO", 9) };
    match form {
        LogForm::Json => {
            let mut line = json!({
                "timestamp": at,
                "severity_text": severity,
                "severity_number": number,
                "body": format!("{} {} {}", record.name(), record.path(), record.status),
            });
            if let (Some(span), Some(fields)) = (&record.span, line.as_object_mut()) {
                fields.insert("trace_id".to_owned(), format!("{:032x}", span.trace).into());
                fields.insert("span_id".to_owned(), format!("{:016x}", span.id).into());
                fields.insert("trace_flags".to_owned(), "01".into());
            }
            let attributes = record.attributes().into_iter().map(|(name, value)| (name, value.into()));
            line["attributes"] = attributes.collect::<Map<_, _>>().into();
            format!("{line}\n")
        }
        LogForm::Text => {
            let mut line =
                format!("{at} {severity} {} {} {} {:?}", record.name(), record.path(), record.status, record.total);
            if let Some(span) = &record.span {
                line.push_str(&format!(" trace_id={:032x} span_id={:016x}", span.trace, span.id));
            }
            for (name, value) in record.attributes() {
                match value {
                    Value::Text(text) => line.push_str(&format!(" {name}={text:?}")),
                    Value::Number(number) => line.push_str(&format!(" {name}={number}")),
                    Value::Seconds(seconds) => line.push_str(&format!(" {name}={seconds}")),
                }
            }
            line + "\n"
        }
    }
}

impl From<Value> for serde_json::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => text.into(),
            Value::Number(number) => number.into(),
            Value::Seconds(seconds) => seconds.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::record::tests::record;
    use super::super::trace::Span;
    use super::*;

    #[test]
    fn a_line_has_the_fields_of_the_log_model_in_both_forms() {
        let mut record = record("GET", "http://web/a", 503);
        record.span = Some(Span { trace: 0xabc, id: 0xdef, parent: None, state: String::new() });
        let json: serde_json::Value = serde_json::from_str(&line(&record, LogForm::Json)).unwrap();
        assert_eq!(json["severity_text"], "ERROR");
        assert_eq!(json["trace_id"], "00000000000000000000000000000abc");
        assert_eq!(json["span_id"], "0000000000000def");
        assert_eq!(json["body"], "GET default/web /a 503");
        assert_eq!(json["attributes"]["http.response.status_code"], 503);
        let text = line(&record, LogForm::Text);
        assert!(text.starts_with("1970-01-01T00:00:01Z ERROR GET default/web /a 503 2ms trace_id="), "{text}");
        assert!(text.ends_with('\n') && text.contains(r#"leno.service="default/web""#), "{text}");
    }

    #[test]
    fn what_cannot_be_written_or_does_not_wait_is_dropped_and_counted() {
        let registry = Registry::new();
        let full = LogFile(Some(Arc::new(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())));
        let log = AccessLog::new(LogForm::Json, full, &registry);
        let record = Arc::new(record("GET", "http://web/", 200));
        for _ in 0..10 * MOST_WAITING {
            log.note(record.clone());
        }
        assert!(log.0.dropped.get() >= 8 * MOST_WAITING as u64, "{}", log.0.dropped.get());
        assert_eq!(log.0.written.get(), 0);
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let file = LogFile(Some(Arc::new(File::from(std::os::fd::OwnedFd::from(writer)))));
        let log = AccessLog::new(LogForm::Text, file, &Registry::new());
        for n in 0..1_000 {
            log.note(Arc::new(record("GET", &format!("http://web/{n}"), 200)));
        }
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let paths: Vec<_> = text.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect();
        assert_eq!(paths, (0..1_000).map(|n| format!("/{n}")).collect::<Vec<_>>());
    }
}
