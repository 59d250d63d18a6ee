//! A scheduler on a thread of its own.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use burn::tensor::Tensor;
use ft_adapters::Pass;

use super::request::{EngineError, Job};
use super::scheduler::Scheduler;
use super::{Options, Stats, check};
use crate::decoder::{Decoder, Input};
use crate::family::Blueprint;

/// Gives an embedding back.
type Reply = Box<dyn FnOnce(Result<Vec<f32>, EngineError>) + Send>;

enum Command {
    Job(Box<Job>),
    Embed { ids: Vec<u32>, adapter: Option<String>, reply: Reply },
    Load { name: String, decoder: Box<Decoder> },
    Unload { name: String },
    CancelAll,
    Wake,
}

/// Where requests go: cheap to clone, and usable from any thread.
#[derive(Clone)]
pub struct Submit {
    commands: Sender<Command>,
    shared: Arc<Shared>,
}

struct Shared {
    stats: Arc<Mutex<Stats>>,
    /// Requests that were taken and have no slot yet, as the scheduler last counted, and those sent
    /// since.
    sent: Mutex<Sent>,
    adapters: Mutex<Vec<String>>,
    blueprint: Blueprint,
    options: Options,
}

#[derive(Default)]
struct Sent {
    unseen: usize,
    stopping: bool,
}

impl std::fmt::Debug for Submit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submit").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// A scheduler on a thread of its own; it ends when this is dropped and all requests are done.
#[derive(Debug)]
pub struct Service {
    submit: Submit,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts a thread that answers with this decoder.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start(decoder: Decoder, options: Options) -> std::io::Result<Self> {
        let (commands, inbox) = channel();
        let stats = Arc::new(Mutex::new(Stats::default()));
        let shared = Arc::new(Shared {
            stats: Arc::clone(&stats),
            sent: Mutex::default(),
            adapters: Mutex::default(),
            blueprint: decoder.blueprint.clone(),
            options: options.clone(),
        });
        let scheduler = Scheduler::new(decoder, options, stats);
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || serve(scheduler, &inbox, &seen))?;
        Ok(Self { submit: Submit { commands, shared }, thread: Some(thread) })
    }

    /// Where requests go.
    pub fn submit(&self) -> &Submit {
        &self.submit
    }

    /// Takes nothing new, finishes what was taken and ends the thread.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.submit.stop_taking();
        // The thread may sleep until somebody asks, and nobody will.
        let _ = self.submit.commands.send(Command::Wake);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

impl Submit {
    /// Takes a request, or says why not. Its sink is told everything else.
    ///
    /// # Errors
    ///
    /// [`EngineError`]; then the sink hears nothing.
    pub fn job(&self, job: Job) -> Result<(), EngineError> {
        let Shared { blueprint, options, .. } = &*self.shared;
        check(&job.request, blueprint)?;
        let request = &job.request;
        let (prompt, new) = (request.prompt.len(), request.max_new_tokens);
        if prompt + new > options.cache_tokens {
            return Err(EngineError::Memory { prompt, new, planned: options.cache_tokens });
        }
        if let Some(name) = &request.adapter
            && !self.adapters().contains(name)
        {
            return Err(EngineError::Adapter { name: name.clone() });
        }
        let mut sent = lock(&self.shared.sent);
        if sent.stopping {
            return Err(EngineError::Stopping);
        }
        let Stats { waiting, running, .. } = self.stats();
        let waiting = (waiting + sent.unseen).saturating_sub(options.slots.saturating_sub(running));
        if waiting >= options.queue {
            return Err(EngineError::Full { waiting });
        }
        sent.unseen += 1;
        self.commands.send(Command::Job(Box::new(job))).map_err(|_| EngineError::Stopping)
    }

    /// The mean of the last hidden states of a text, of length 1.
    ///
    /// # Errors
    ///
    /// [`EngineError`]; then the reply is never given.
    pub fn embed(
        &self,
        ids: Vec<u32>,
        adapter: Option<String>,
        reply: impl FnOnce(Result<Vec<f32>, EngineError>) + Send + 'static,
    ) -> Result<(), EngineError> {
        let request = super::Request { prompt: ids, ..super::Request::default() };
        check(&request, &self.shared.blueprint)?;
        let command = Command::Embed { ids: request.prompt, adapter, reply: Box::new(reply) };
        self.commands.send(command).map_err(|_| EngineError::Stopping)
    }

    /// Adds the same base with an adapter, or puts another in the place of one of that name.
    /// Requests under way keep the adapter that they began with.
    pub fn load(&self, name: &str, decoder: Decoder) {
        let mut adapters = lock(&self.shared.adapters);
        if !adapters.iter().any(|known| known == name) {
            adapters.push(name.to_owned());
        }
        let command = Command::Load { name: name.to_owned(), decoder: Box::new(decoder) };
        let _ = self.commands.send(command);
    }

    /// Removes an adapter; false if there is none of that name.
    pub fn unload(&self, name: &str) -> bool {
        let mut adapters = lock(&self.shared.adapters);
        let known = adapters.iter().any(|known| known == name);
        adapters.retain(|known| known != name);
        let _ = self.commands.send(Command::Unload { name: name.to_owned() });
        known
    }

    /// Names of the adapters.
    pub fn adapters(&self) -> Vec<String> {
        lock(&self.shared.adapters).clone()
    }

    /// What the engine has done and is doing.
    pub fn stats(&self) -> Stats {
        *lock(&self.shared.stats)
    }

    /// What the model is.
    pub fn blueprint(&self) -> &Blueprint {
        &self.shared.blueprint
    }

    /// What was planned.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Most tokens that a prompt and its answer may have together.
    pub fn context(&self) -> usize {
        self.shared.blueprint.context.min(self.shared.options.cache_tokens)
    }

    /// Lets all requests under way end at their next token.
    pub fn cancel_all(&self) {
        let _ = self.commands.send(Command::CancelAll);
    }

    /// Takes no further requests.
    pub fn stop_taking(&self) {
        lock(&self.shared.sent).stopping = true;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers until nobody can ask any more.
fn serve(mut scheduler: Scheduler, inbox: &Receiver<Command>, shared: &Shared) {
    let mut numbers = 1..;
    loop {
        loop {
            let command = if scheduler.is_idle() {
                if lock(&shared.sent).stopping && lock(&shared.sent).unseen == 0 {
                    return;
                }
                match inbox.recv() {
                    Ok(command) => command,
                    Err(_) => return,
                }
            } else {
                match inbox.try_recv() {
                    Ok(command) => command,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            };
            match command {
                Command::Job(job) => {
                    let mut sent = lock(&shared.sent);
                    sent.unseen -= 1;
                    scheduler.push(*job);
                    scheduler.count(0);
                }
                Command::Embed { ids, adapter, reply } => reply(embed(&scheduler, ids, adapter)),
                Command::Load { name, decoder } => {
                    scheduler.remove(&name);
                    scheduler.add(numbers.next().unwrap_or_default(), name, *decoder);
                }
                Command::Unload { name } => scheduler.remove(&name),
                Command::CancelAll => scheduler.cancel_all(),
                Command::Wake => {}
            }
        }
        scheduler.step();
    }
}

fn embed(
    scheduler: &Scheduler,
    ids: Vec<u32>,
    adapter: Option<String>,
) -> Result<Vec<f32>, EngineError> {
    let model = scheduler.models.iter().find(|model| model.name == adapter);
    let Some(model) = model else {
        return Err(EngineError::Adapter { name: adapter.unwrap_or_default() });
    };
    let hidden: Tensor<2> = model.decoder.hidden(&Input::one(ids), Pass::Inference);
    let mean = hidden.mean_dim(0).into_data();
    let mean = mean.try_into_vec::<f32>().expect("hidden states are f32 on every device");
    let length = mean.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if !length.is_finite() {
        return Err(EngineError::NotFinite);
    }
    #[expect(clippy::cast_possible_truncation, reason = "a length of f32")]
    let scale = (1.0 / length.max(f64::from(f32::MIN_POSITIVE))) as f32;
    Ok(mean.into_iter().map(|x| x * scale).collect())
}
