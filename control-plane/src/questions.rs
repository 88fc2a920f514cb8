//! What is asked of sidecars while somebody waits for it: each has a call open on which it answers (`xds/reports`), and the API asks all of
//! them at once. Nothing is kept here.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leno_proto::v1::question::What;
use leno_proto::v1::{Question, RememberedRequest};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::model::Name;

/// Questions that wait for answers at a time.
pub const MOST_OPEN: usize = 32;
/// Questions that wait to be sent to one sidecar; one that reads none is not asked more.
const MOST_WAITING: usize = 8;
/// Requests that are taken of one answer.
const MOST_REQUESTS: usize = 16;

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
struct Open {
    answers: mpsc::UnboundedSender<Answered>,
    /// The calls that were asked and have not answered. Each answers once, whatever its sidecar sends.
    waiting: HashSet<u64>,
}

/// What one sidecar said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    pub sidecar: Name,
    pub requests: Vec<RememberedRequest>,
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
        if inner.open.len() >= MOST_OPEN {
            return Err(Busy);
        }
        inner.last += 1;
        let id = inner.last;
        let question = Question { id, what: Some(what) };
        let asks =
            |(call, sidecar): (&u64, &mpsc::Sender<Question>)| sidecar.try_send(question.clone()).ok().map(|()| *call);
        let waiting: HashSet<u64> = inner.sidecars.iter().filter_map(asks).collect();
        let (asked, (sender, answers)) = (waiting.len(), mpsc::unbounded_channel());
        inner.open.insert(id, Open { answers: sender, waiting });
        Ok((Asking { of: self.clone(), id }, asked, answers))
    }
}

impl Call {
    /// Takes an answer. One that nobody waits for, or a second one, is dropped.
    pub fn answered(&self, question: u64, mut requests: Vec<RememberedRequest>) {
        requests.truncate(MOST_REQUESTS);
        let mut inner = self.of.lock();
        if let Some(open) = inner.open.get_mut(&question)
            && open.waiting.remove(&self.number)
        {
            let _ = open.answers.send(Answered { sidecar: self.name.clone(), requests });
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.of.lock().sidecars.remove(&self.number);
    }
}

/// A question that is open.
struct Asking {
    of: Questions,
    id: u64,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.of.lock().open.remove(&self.id);
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
        one.answered(asked.id + 100, requests(1));
        one.answered(asked.id, requests(MOST_REQUESTS + 5));
        // A second answer is not taken for that of the one who has not answered.
        one.answered(asked.id, requests(1));
        let answers = asking.await.unwrap().unwrap();
        assert_eq!((answers.asked, answers.answers.len()), (2, 1));
        assert_eq!(answers.answers[0].requests.len(), MOST_REQUESTS);
        one.answered(asked.id, requests(1));
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
}
