//! Serving one connection's input: batch after batch, until the input or the
//! budget is used up or the socket takes no more output.

use std::ops::Range;

use crate::command::{After, AwaitedBlock, Executor, Output, StreamedReply};
use crate::limits::{BATCH_MAX, KEY_MAX_BYTES};
use crate::protocol::request::Request;
use crate::protocol::text::encode;
use crate::protocol::text::parse::ErrorReply;
use crate::protocol::text::reply::Reply;
use crate::protocol::tokens::tokens;
use crate::server::connection::batch::{Step, Steps, Stop, parse_batch, repeated_get};
use crate::server::connection::budget::Budget;
use crate::server::connection::context::Context;
use crate::server::connection::log;
use crate::server::connection::outcome::{Served, Turn};
use crate::server::connection::sasl_guard::Admitted;
use crate::server::connection::state::{Connection, Sent, State};
use crate::server::stop::StopRequest;
use crate::stats::CommandKind;
use crate::sync::Ordering;

impl Context {
    /// Serves `input`, of which `first` are the steps parsed already.
    /// `first_used` is their length in bytes and `first_stop` why parsing
    /// ended.
    ///
    /// Returns the bytes of `input` used and how the turn ended. Output that
    /// could not be sent stays with the connection.
    pub(in crate::server) fn serve(
        &mut self,
        connection: &mut Connection,
        input: &[u8],
        first: &[Step<'_>],
        (first_used, first_stop): (usize, Option<Stop<'_>>),
        mut budget: Budget<'_>,
    ) -> (usize, Served) {
        let mut used = first_used;
        if let Some(stop) = first_stop {
            let turn = self.run(connection, first, stop, 0..first_used, &mut used, input);
            if let Some(served) = self.after_batch(connection, turn) {
                return (used, served);
            }
        }
        loop {
            if connection.is_dumping() && self.dump(connection) {
                if let Some(served) = self.after_batch(connection, Turn::GoOn) {
                    return (used, served);
                }
                if !budget.take() {
                    return (used, self.finish(connection, Served::Dumping));
                }
                continue;
            }
            if used == input.len() {
                return (used, self.finish(connection, Served::NeedInput));
            }
            if !budget.take() {
                return (used, self.finish(connection, Served::Yielding));
            }
            let rest = &input[used..];
            let turn = if matches!(connection.state, State::Command | State::New) {
                let mut steps = Steps::new();
                let spelling = connection.wire_protocol(rest);
                let (len, stop) = parse_batch(&self.store, spelling, rest, &mut steps, BATCH_MAX);
                self.prefetch(&steps);
                let batch = used..used + len;
                used += len;
                self.run(connection, &steps, stop, batch, &mut used, input)
            } else {
                let (len, turn) = self.go_on(connection, rest);
                used += len;
                turn
            };
            if let Some(served) = self.after_batch(connection, turn) {
                return (used, served);
            }
        }
    }

    /// Continues after a batch: ends the turn, or sends if the output buffer is
    /// full. Returns `None` if the turn goes on.
    fn after_batch(&mut self, connection: &mut Connection, turn: Turn) -> Option<Served> {
        match turn {
            Turn::End(served) => Some(self.finish(connection, served)),
            Turn::GoOn if !self.out.is_full() => None,
            Turn::GoOn => match self.send(connection) {
                Sent::All => None,
                Sent::Blocked => Some(Served::Blocked),
                Sent::Paused => Some(Served::Sending),
                Sent::Lost => Some(Served::Finished),
            },
        }
    }

    /// Ends a turn: sends the output buffer and returns what follows.
    fn finish(&mut self, connection: &mut Connection, served: Served) -> Served {
        let sent = self.send(connection);
        if sent.is_unfinished() {
            connection.closing |= served == Served::Finished;
        }
        let served = match sent {
            Sent::All => served,
            Sent::Lost => Served::Finished,
            Sent::Blocked => Served::Blocked,
            Sent::Paused => Served::Sending,
        };
        log::state(&self.shared, connection.stream.fd(), served);
        served
    }

    /// Executes a batch and enters the state that follows from `stop`.
    ///
    /// `batch` is the range of the steps in `input`. `used` is set back if some
    /// of them must wait.
    #[inline]
    fn run(
        &mut self,
        connection: &mut Connection,
        steps: &[Step<'_>],
        stop: Stop<'_>,
        batch: Range<usize>,
        used: &mut usize,
        input: &[u8],
    ) -> Turn {
        connection.state = State::Command;
        if !steps.is_empty() {
            self.record_command(connection);
        }
        self.attend(connection.stream.fd());
        self.store.enter(&mut self.local);
        let verbose = self.shared.runtime.verbosity.load(Ordering::Relaxed) > 1;
        let guarded = self.is_guarded();
        let mut index = 0;
        while index < steps.len() {
            let rest = &steps[index..];
            let (ran, after) = match verbose || guarded {
                false => self.run_steps(rest),
                true => (1, self.run_watched(connection, &rest[0], verbose)),
            };
            index += ran;
            self.commands += ran;
            self.timing.count(&rest[..ran]);
            match after {
                After::Continue => {}
                After::Close => return Turn::End(Served::Finished),
                After::Quit => {
                    connection.close_reason = "normal";
                    return Turn::End(Served::Finished);
                }
                After::Shutdown => {
                    // If the channel is full, the server is already stopping.
                    let _ = self.stop.try_send(StopRequest::Stop);
                    connection.close_reason = "shutdown";
                    return Turn::End(Served::Finished);
                }
                After::Paused { done } => {
                    return self.pause(connection, &steps[index - 1], done, input, used);
                }
                After::StreamedReply(reply) => {
                    // Commands after this one must wait for the end of its
                    // reply. They are parsed again then.
                    *used = batch.start + self.length_of(connection, &input[batch], index);
                    if index == steps.len()
                        && let Stop::Swallow(len) = stop
                    {
                        connection.skip_after_dump = len;
                    }
                    return begin_reply(connection, reply);
                }
                After::Block(awaited) => {
                    // What was parsed behind the line is its data block.
                    *used = batch.start + self.length_of(connection, &input[batch], index);
                    connection.state = match awaited {
                        AwaitedBlock::Cluster { block, noreply } => {
                            State::ReceivingList { block, noreply }
                        }
                        AwaitedBlock::Refused(len) => State::Swallowing(len),
                    };
                    return Turn::GoOn;
                }
            }
            if index < steps.len() && self.out.is_full() {
                *used = batch.start + self.length_of(connection, &input[batch], index);
                return Turn::GoOn;
            }
        }
        match stop {
            Stop::Full => {}
            Stop::Incomplete => return Turn::End(Served::NeedInput),
            Stop::Close => return Turn::End(Served::Finished),
            Stop::Swallow(len) => connection.state = State::Swallowing(len),
            Stop::LongGet { cas } => connection.state = State::LongGet { cas, touch: None },
            Stop::SkipLine => connection.state = State::SkippingLine,
            Stop::ValueToCome(request) => {
                let admitted = match guarded {
                    true => self.admit_value(connection, &request),
                    false => Admitted::Yes,
                };
                match admitted {
                    Admitted::Yes => {}
                    Admitted::No => return Turn::End(Served::Finished),
                    Admitted::Answered => {
                        let len = request.block_len().unwrap_or(0);
                        connection.state = State::Swallowing(len);
                        return Turn::GoOn;
                    }
                }
                let (mut executor, out) = self.executor();
                connection.state = match executor.begin_store(&request, out) {
                    Some(pending) => State::Receiving(pending),
                    None => State::Swallowing(request.block_len().unwrap_or(0)),
                };
                let (len, turn) = self.go_on(connection, &input[*used..]);
                *used += len;
                return turn;
            }
        }
        Turn::GoOn
    }

    /// Suspends a retrieval that is answered up to `done` bytes of its key
    /// list. It continues with the next key once output was sent.
    #[cold]
    fn pause(
        &mut self,
        connection: &mut Connection,
        step: &Step<'_>,
        done: usize,
        input: &[u8],
        used: &mut usize,
    ) -> Turn {
        let Step::Execute {
            request: Request::Get(line),
            ..
        } = step
        else {
            debug_assert!(false, "only retrievals pause between keys");
            return Turn::End(Served::Finished);
        };
        *used = line.keys.as_ptr().addr() - input.as_ptr().addr() + done;
        connection.state = State::LongGet {
            cas: line.cas,
            touch: line.touch,
        };
        Turn::GoOn
    }

    /// Returns the length in bytes of the first `count` commands of `input`.
    fn length_of(&self, connection: &mut Connection, input: &[u8], count: usize) -> usize {
        let spelling = connection.wire_protocol(input);
        let mut steps = Steps::new();
        parse_batch(&self.store, spelling, input, &mut steps, count).0
    }

    /// Records the second of the connection's last command.
    fn record_command(&self, connection: &mut Connection) {
        let second = self.now.second();
        if connection.active != second {
            connection.active = second;
            let table = &self.shared.table;
            table.record_command(connection.stream.fd(), second);
        }
    }

    /// Writes the next step of a dump. Returns false at its end.
    fn dump(&mut self, connection: &mut Connection) -> bool {
        let State::Dumping(dump) = &mut connection.state else {
            return false;
        };
        let more = dump.step(&self.store, &self.shared, self.now, &mut self.out);
        connection.active = self.now.second();
        if !more {
            connection.state = match std::mem::take(&mut connection.skip_after_dump) {
                0 => State::Command,
                len => State::Swallowing(len),
            };
        }
        more
    }

    /// Executes a step that must be logged or checked by the SASL guard.
    #[cold]
    fn run_watched(
        &mut self,
        connection: &mut Connection,
        step: &Step<'_>,
        verbose: bool,
    ) -> After {
        if verbose {
            log::step(&self.shared, self.connection, step);
        }
        let before = self.out.bytes.len();
        let after = match self.is_guarded() {
            true => self.run_guarded(connection, step),
            false => self.run_step(step),
        };
        if verbose {
            // Earlier output may have been sent meanwhile.
            let answer = self.out.bytes.get(before..).unwrap_or_default();
            log::answer(&self.shared, self.connection, answer);
        }
        after
    }

    /// Executes steps until a command requires more than its reply, or the
    /// output is full. Returns the number of executed steps and what follows.
    #[inline]
    fn run_steps(&mut self, steps: &[Step<'_>]) -> (usize, After) {
        let (mut executor, out) = self.executor();
        let mut index = 0;
        while let Some(step) = steps.get(index) {
            if let Some((line, hash, times)) = repeated_get(&steps[index..]) {
                index += executor.get_repeatedly(line, hash, times, out);
            } else {
                index += 1;
                match perform(&mut executor, step, out) {
                    After::Continue => {}
                    other => return (index, other),
                }
            }
            if out.is_full() {
                break;
            }
        }
        (index, After::Continue)
    }

    /// Executes one step.
    pub(in crate::server) fn run_step(&mut self, step: &Step<'_>) -> After {
        let (mut executor, out) = self.executor();
        perform(&mut executor, step, out)
    }

    /// Serves input in any state but waiting for a command. Returns the bytes
    /// used and how the turn goes on.
    fn go_on(&mut self, connection: &mut Connection, input: &[u8]) -> (usize, Turn) {
        self.attend(connection.stream.fd());
        match std::mem::replace(&mut connection.state, State::Command) {
            state @ (State::New
            | State::Command
            | State::Dumping(_)
            | State::Watching(_)
            | State::Parked) => {
                connection.state = state;
                (0, Turn::GoOn)
            }
            State::Locked => self.login(connection, input),
            State::Swallowing(left) => {
                let len = left.min(input.len());
                if len < left {
                    connection.state = State::Swallowing(left - len);
                }
                (len, Turn::GoOn)
            }
            State::SkippingLine => match memchr::memchr(b'\n', input) {
                Some(end) => (end + 1, Turn::GoOn),
                None => {
                    connection.state = State::SkippingLine;
                    (input.len(), Turn::GoOn)
                }
            },
            State::ReceivingList { block, noreply } => {
                let len = block.len as usize + 2;
                let Some(bytes) = input.get(..len) else {
                    connection.state = State::ReceivingList { block, noreply };
                    return (0, Turn::End(Served::NeedInput));
                };
                let (executor, out) = self.executor();
                executor.finish_cluster_set(block, bytes, noreply, out);
                (len, Turn::GoOn)
            }
            State::LongGet { cas, touch } => self.long_get(connection, cas, touch, input),
            State::Receiving(mut pending) => {
                let before = pending.missing();
                let len = before.min(input.len());
                let (mut executor, out) = self.executor();
                let filled = executor.fill_store(&mut pending, &input[..len]);
                let missing = pending.missing();
                if filled.is_err() {
                    executor.fail_store(pending, out);
                    connection.state = State::Swallowing(before);
                    return (0, Turn::GoOn);
                }
                if missing == 0 {
                    executor.finish_store(pending, out);
                    self.timing.count_one(CommandKind::Store);
                } else {
                    connection.state = State::Receiving(pending);
                }
                (len, Turn::GoOn)
            }
        }
    }

    /// Continues a retrieval with its next keys, as far as they have arrived
    /// and the output has room. Returns the bytes used and how the turn goes
    /// on.
    fn long_get(
        &mut self,
        connection: &mut Connection,
        cas: bool,
        touch: Option<i32>,
        input: &[u8],
    ) -> (usize, Turn) {
        let end = memchr::memchr(b'\n', input);
        let (keys, used) = match end {
            Some(end) => {
                let line = &input[..end];
                (line.strip_suffix(b"\r").unwrap_or(line), end + 1)
            }
            None => {
                let whole = memchr::memrchr(b' ', input).map_or(0, |blank| blank + 1);
                (&input[..whole], whole)
            }
        };
        let unfinished = if end.is_some() { 0 } else { input.len() - used };
        let too_long =
            unfinished > KEY_MAX_BYTES + 1 || tokens(keys).any(|key| key.len() > KEY_MAX_BYTES);
        let (mut executor, out) = self.executor();
        if too_long {
            encode::line(&mut out.bytes, Reply::BadFormat.text());
            if end.is_none() {
                connection.state = State::SkippingLine;
                return (input.len(), Turn::GoOn);
            }
            return (used, Turn::GoOn);
        }
        let done = executor.get_many(keys, cas, touch, out);
        if done < keys.len() {
            connection.state = State::LongGet { cas, touch };
            return (done, Turn::GoOn);
        }
        if end.is_some() {
            encode::end(&mut out.bytes);
            return (used, Turn::GoOn);
        }
        connection.state = State::LongGet { cas, touch };
        if used == 0 {
            return (0, Turn::End(Served::NeedInput));
        }
        (used, Turn::GoOn)
    }

    /// Receives a value from the socket directly into its item.
    ///
    /// Returns the result of the read while the value is incomplete. Returns
    /// `None` once it is complete, or refused for lack of memory. A packet is
    /// then stored. The CRLF of a text command is still to come: it is read like
    /// other input, together with the commands behind it.
    pub(in crate::server) fn receive(
        &mut self,
        connection: &mut Connection,
    ) -> Option<std::io::Result<usize>> {
        self.attend(connection.stream.fd());
        let State::Receiving(pending) = &mut connection.state else {
            return None;
        };
        if pending.new.missing() == 0 {
            return None;
        }
        let stream = &mut connection.stream;
        let (mut executor, out) = self.executor();
        let received = executor.fill_with(&mut pending.new, |room| stream.read(room));
        let (missing, of_value) = (pending.missing(), pending.new.missing());
        let state = std::mem::replace(&mut connection.state, State::Command);
        let State::Receiving(pending) = state else {
            return None;
        };
        match received {
            Err(_) => {
                executor.fail_store(pending, out);
                connection.state = State::Swallowing(missing);
                None
            }
            Ok(result) => {
                if missing == 0 {
                    executor.finish_store(pending, out);
                    self.timing.count_one(CommandKind::Store);
                } else {
                    connection.state = State::Receiving(pending);
                }
                if let Ok(len) = result {
                    self.local.counters.bytes_read.add(len as u64);
                    connection.active = self.now.second();
                    connection.progressed = self.now.millis();
                }
                if of_value == 0 { None } else { Some(result) }
            }
        }
    }
}

/// Executes a step and appends its reply.
#[inline]
fn perform(executor: &mut Executor<'_>, step: &Step<'_>, out: &mut Output) -> After {
    match step {
        Step::Execute {
            request,
            hash,
            block,
        } => executor.execute(request, *hash, block, out),
        Step::Refuse(malformed) => {
            if let ErrorReply::Line(reply) = malformed.reply {
                encode::line(&mut out.bytes, reply);
            }
            After::Continue
        }
    }
}

/// Enters the state of a streamed reply.
fn begin_reply(connection: &mut Connection, reply: StreamedReply) -> Turn {
    match reply {
        StreamedReply::Dump(dump) => {
            connection.state = State::Dumping(dump);
            Turn::GoOn
        }
        StreamedReply::Watch(filter) => {
            connection.state = State::Watching(filter);
            Turn::End(Served::Leaving)
        }
    }
}
