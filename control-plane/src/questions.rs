//! What is asked of sidecars while somebody waits for it: each has a call open on which it answers (`xds/reports`), and the API asks all of
//! them at once, or has them show requests as they come. Nothing is kept here.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leno_proto::v1::question::What;
use leno_proto::v1::{Question, RememberedRequest, Tap};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::model::Name;

/// Questions that wait for answers at a time.
pub const MOST_OPEN: usize = 32;
/// Questions that wait to be sent to one sidecar; one that reads none is not asked more.
const MOST_WAITING: usize = 8;
/// Requests that are taken of one answer.
const MOST_REQUESTS: usize = 16;
/// Of one to a tap.
const MOST_TAPPED: usize = 128;
/// Answers to a tap that wait to be read.
const MOST_SHOWN: usize = 64;

/// Who can be asked; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Questions(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Of calls and of questions.
    last: u64,
    /// By call.
    sidecars: HashMap<u64, mpsc::Sender<Question>>,
    /// By question.
    open: HashMap<u64, Open>,
}

/// A question that waits for answers.
#[derive(Debug)]
enum Open {
    Once {
        answers: mpsc::UnboundedSender<Answered>,
        /// The calls that were asked and have not answered. Each answers once, whatever its sidecar sends.
        waiting: HashSet<u64>,
    },
    /// Answered until it is ended, also by those who come later.
    Tap { wanted: Box<Tap>, answers: mpsc::Sender<Answered>, missed: u64 },
}

/// What one sidecar said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    pub sidecar: Name,
    pub requests: Vec<RememberedRequest>,
    /// Of a tap: requests that it did not see for their number.
    pub missed: u64,
}

/// What all of them said.
#[derive(Debug, Default)]
pub struct Answers {
    /// How many were asked.
    pub asked: usize,
    pub answers: Vec<Answered>,
}

/// Too much is asked already.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

/// A call on which a sidecar answers; it is asked nothing any more when this is dropped.
#[derive(Debug)]
pub struct Call {
    of: Questions,
    number: u64,
    name: Name,
    /// What it is asked.
    pub questions: mpsc::Receiver<Question>,
}

impl Questions {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sidecar is there to be asked.
    pub fn call(&self, name: Name) -> Call {
        let (sender, questions) = mpsc::channel(MOST_WAITING);
        let mut inner = self.lock();
        inner.last += 1;
        let number = inner.last;
        for (id, open) in &inner.open {
            if let Open::Tap { wanted, .. } = open {
                let _ = sender.try_send(Question { id: *id, what: Some(What::Tap((**wanted).clone())) });
            }
        }
        inner.sidecars.insert(number, sender);
        Call { of: self.clone(), number, name, questions }
    }

    /// Asks every sidecar, and waits for their answers, not longer than this.
    ///
    /// # Errors
    /// Too much is asked already.
    pub async fn ask(&self, what: What, within: Duration) -> Result<Answers, Busy> {
        let (asking, asked, mut answers) = self.begin(what)?;
        let mut all = Answers { asked, answers: Vec::new() };
        let deadline = Instant::now() + within;
        while all.answers.len() < asked {
            match tokio::time::timeout_at(deadline, answers.recv()).await {
                Ok(Some(answer)) => all.answers.push(answer),
                _ => break,
            }
        }
        drop(asking);
        all.answers.sort_by(|a, b| a.sidecar.cmp(&b.sidecar));
        Ok(all)
    }

    fn begin(&self, what: What) -> Result<(Asking, usize, mpsc::UnboundedReceiver<Answered>), Busy> {
        let mut inner = self.lock();
        let id = inner.next()?;
        let waiting = inner.tell(&Question { id, what: Some(what) });
        let (asked, (sender, answers)) = (waiting.len(), mpsc::unbounded_channel());
        inner.open.insert(id, Open::Once { answers: sender, waiting });
        Ok((Asking { of: self.clone(), id, tap: false }, asked, answers))
    }

    /// Has every sidecar show requests as they end, until this is dropped.
    ///
    /// # Errors
    /// Too much is asked already.
    pub fn tap(&self, wanted: Tap) -> Result<Tapping, Busy> {
        let mut inner = self.lock();
        let id = inner.next()?;
        inner.tell(&Question { id, what: Some(What::Tap(wanted.clone())) });
        let (sender, answers) = mpsc::channel(MOST_SHOWN);
        inner.open.insert(id, Open::Tap { wanted: Box::new(wanted), answers: sender, missed: 0 });
        Ok(Tapping { _asking: Asking { of: self.clone(), id, tap: true }, answers })
    }

    /// Ends every tap: nobody waits for one when the control plane does not go on.
    pub fn end_taps(&self) {
        self.lock().open.retain(|_, open| !matches!(open, Open::Tap { .. }));
    }
}

impl Inner {
    fn next(&mut self) -> Result<u64, Busy> {
        if self.open.len() >= MOST_OPEN {
            return Err(Busy);
        }
        self.last += 1;
        Ok(self.last)
    }

    /// Who was told; one whose queue is full is not.
    fn tell(&self, question: &Question) -> HashSet<u64> {
        let tells =
            |(call, sidecar): (&u64, &mpsc::Sender<Question>)| sidecar.try_send(question.clone()).ok().map(|()| *call);
        self.sidecars.iter().filter_map(tells).collect()
    }
}

/// Requests as they end, until it is dropped.
#[derive(Debug)]
pub struct Tapping {
    _asking: Asking,
    /// What sidecars show; closed when the control plane does not go on.
    pub answers: mpsc::Receiver<Answered>,
}

impl Call {
    /// Takes an answer. One that nobody waits for, or a second one, is dropped; who goes on to show requests is told again to end.
    pub fn answered(&self, question: u64, mut requests: Vec<RememberedRequest>, missed: u64) {
        let sidecar = self.name.clone();
        let mut inner = self.of.lock();
        match inner.open.get_mut(&question) {
            Some(Open::Once { answers, waiting }) => {
                if waiting.remove(&self.number) {
                    requests.truncate(MOST_REQUESTS);
                    let _ = answers.send(Answered { sidecar, requests, missed: 0 });
                }
            }
            Some(Open::Tap { answers, missed: lost, .. }) => {
                requests.truncate(MOST_TAPPED);
                let many = requests.len() as u64 + missed;
                // One who reads slowly misses some, and learns how many with what it gets next.
                let all = std::mem::take(lost) + missed;
                if answers.try_send(Answered { sidecar, requests, missed: all }).is_err() {
                    *lost = all - missed + many;
                }
            }
            None => {
                if let Some(sidecar) = inner.sidecars.get(&self.number) {
                    let _ = sidecar.try_send(Question { id: question, what: Some(What::End(true)) });
                }
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.of.lock().sidecars.remove(&self.number);
    }
}

/// A question that is open.
#[derive(Debug)]
struct Asking {
    of: Questions,
    id: u64,
    tap: bool,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut inner = self.of.lock();
        inner.open.remove(&self.id);
        if self.tap {
            inner.tell(&Question { id: self.id, what: Some(What::End(true)) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(2);

    fn requests(n: usize) -> Vec<RememberedRequest> {
        vec![RememberedRequest::default(); n]
    }

    #[tokio::test(start_paused = true)]
    async fn every_sidecar_is_asked_and_who_does_not_answer_is_not_waited_for() {
        let questions = Questions::default();
        let mut one = questions.call(Name::new("default", "one"));
        let _deaf = questions.call(Name::new("default", "deaf"));
        drop(questions.call(Name::new("default", "gone")));
        let asking = tokio::spawn({
            let questions = questions.clone();
            async move { questions.ask(What::Request(7), WITHIN).await }
        });
        let asked = one.questions.recv().await.unwrap();
        assert_eq!(asked.what, Some(What::Request(7)));
        one.answered(asked.id + 100, requests(1), 0);
        one.answered(asked.id, requests(MOST_REQUESTS + 5), 0);
        // A second answer is not taken for that of the one who has not answered.
        one.answered(asked.id, requests(1), 0);
        let answers = asking.await.unwrap().unwrap();
        assert_eq!((answers.asked, answers.answers.len()), (2, 1));
        assert_eq!(answers.answers[0].requests.len(), MOST_REQUESTS);
        one.answered(asked.id, requests(1), 0);
        assert!(questions.lock().open.is_empty(), "nobody waits any more");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_asked_at_a_time_than_the_bound_and_a_full_sidecar_is_left_out() {
        let questions = Questions::default();
        let _deaf = questions.call(Name::new("default", "deaf"));
        let open: Vec<_> = (0..MOST_OPEN).map(|_| questions.begin(What::Request(1)).unwrap()).collect();
        let asked: usize = open.iter().map(|(_, asked, _)| asked).sum();
        assert_eq!(asked, MOST_WAITING);
        assert_eq!(questions.ask(What::Request(1), WITHIN).await.map(|_| ()), Err(Busy));
        drop(open);
        assert!(questions.ask(What::Request(1), WITHIN).await.is_ok());
    }

    #[tokio::test]
    async fn a_tap_is_shown_by_all_until_it_is_dropped_and_a_slow_reader_learns_what_it_missed() {
        let questions = Questions::default();
        let mut early = questions.call(Name::new("default", "early"));
        let wanted = Tap { service: "default/web".to_owned(), ..Tap::default() };
        let mut tapping = questions.tap(wanted.clone()).unwrap();
        let mut late = questions.call(Name::new("default", "late"));
        let asked = early.questions.recv().await.unwrap();
        assert_eq!(asked.what, Some(What::Tap(wanted)));
        assert_eq!(late.questions.recv().await.as_ref(), Some(&asked), "who comes later is asked, too");
        for _ in 0..MOST_SHOWN + 3 {
            early.answered(asked.id, requests(2), 1);
        }
        let mut shown = Vec::new();
        while let Ok(answer) = tapping.answers.try_recv() {
            shown.push((answer.requests.len(), answer.missed));
        }
        assert_eq!(shown, vec![(2, 1); MOST_SHOWN]);
        late.answered(asked.id, requests(MOST_TAPPED + 5), 0);
        let last = tapping.answers.recv().await.unwrap();
        assert_eq!((last.requests.len(), last.missed), (MOST_TAPPED, 9));

        drop(tapping);
        assert_eq!(early.questions.recv().await.unwrap().what, Some(What::End(true)));
        early.answered(asked.id, requests(1), 0);
        assert_eq!(early.questions.recv().await.unwrap().what, Some(What::End(true)), "it is told again");
        let mut ended = questions.tap(Tap::default()).unwrap();
        questions.end_taps();
        assert!(ended.answers.recv().await.is_none());
    }
}
