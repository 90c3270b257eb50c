/*
 * job x runner x zitd, with crashes anywhere: what design.md's sections 6 and 9 promise of a job, as a model that
 * spin looks through whole. tests/spin/run checks it, and that each of its mutations below is found out.
 *
 * What is modelled. zitd is one thread: each of its steps is atomic, and it may be killed between any two. What it
 * knows of a job is lost then, but for the row of the store, which the disk thread makes equal to memory in steps of
 * its own (`dirty` until then). Runners die with it. A restart goes on from the rows. Runners die and hang at any
 * time, say a thing twice, and what they said may be read after their death was seen. Clients ask again when their
 * connection broke. Jobs are cancelled and overrun at any time.
 *
 * What is left out. Time: a clock is something that may happen at any moment, or, where it is the only way on (a
 * runner that hangs), must. Order in the queue, priorities, admission, several pictures, checkpoints. DISPATCHED
 * and RUNNING are one state, its two clocks are the two ways of dealing with a hang. What ends a job early (cancel,
 * queue and execution timeout, an error of its own) is one kind of end.
 *
 * What is fair: crashes, deaths, hangs and lies are numbered (choose_world), so they cease; and whoever can
 * take a step at the end takes it. Nothing else is assumed: a run that goes round in a circle would be an error.
 *
 * Properties
 *   one_end      a job that has ended does not move again; one final record is committed, ever
 *   kept         an acknowledged job is in the store, and known after any restart
 *   told_once    a client is answered once, with what the store says
 *   counted      a runner gets a job only after the store knows of the attempt; none is run after three losses
 *                with zitd
 *   just         nobody is dead for another's death: twice a runner died with nothing else on it (or sent to it,
 *                while its death was not yet seen), or zitd died thrice
 *   whole        a record that says done has its file
 *   ends         every submitted job ends, and its client hears of it (watch, and the ltl formula)
 */
#ifndef JOBS
#define JOBS 2
#endif
#ifndef RUNNERS
#define RUNNERS 2
#endif
#define HOLDS 2	   /* jobs on a runner */
#define MAX_BLAME 2
#define MAX_LOSSES 3

mtype = { NONE, QUEUED, PICKED, RUNNING, STORED, FINAL }; /* a job's states; PICKED: to be sent when it is committed */
mtype = { DONE, ENDED, DEAD };				   /* its ends */
mtype = { RESULT, FAILED, STOPPED };			   /* what a runner says */
mtype = { NEW, TAKEN, ACKED, WAITING, ANSWERED };	   /* a client; TAKEN: its submit was read */

#define CELLS (JOBS * RUNNERS)
#define CELL(r, j) ((r) * JOBS + (j))

/* ---- names of properties, for what spin prints: no part of the state, always true */
hidden byte one_end = 1, kept = 1, told_once = 1, counted = 1, just = 1, whole = 1, ends = 1;

/* ---- the store: what a crash leaves */
mtype d_state[JOBS] = NONE; /* QUEUED, RUNNING (an attempt without an end), FINAL */
mtype d_end[JOBS] = NONE;
byte d_attempt[JOBS], d_losses[JOBS], d_blame[JOBS];
bit d_file[JOBS]; /* the picture, by its last name */

/* ---- zitd's memory */
bit up = 1;
mtype state[JOBS] = NONE, ending[JOBS] = NONE;
byte attempt[JOBS], losses[JOBS], blame[JOBS], place[JOBS]; /* place: the runner of a job that is PICKED or RUNNING */
bit alone[JOBS], dirty[JOBS], waiter[JOBS];
byte slot[CELLS]; /* the attempt that the runner has and has not let go; 0 */
byte generation[RUNNERS] = 1;

/* ---- the rest of the world */
mtype client[JOBS] = NEW;
bit alive[RUNNERS] = 1, hung[RUNNERS];
byte has[CELLS]; /* the attempt that the runner really has; 0 */
chan said[RUNNERS] = [2] of { mtype, byte, byte, byte }; /* what, job, attempt, generation */

/* What can still go wrong: zitd is killed, a runner dies, a runner hangs, a result is sent twice, a job is ended early. */
byte crashes, deaths, hangs, lies, cancels;

/* ---- ghosts: what really happened, for the properties alone */
byte lone_deaths[JOBS], lost[JOBS];

/* ---- zitd: jobs */

inline move(j, to)
{
	assert(one_end && state[j] != FINAL);
	state[j] = to;
	place[j] = 0;
	dirty[j] = 1
}

inline finish(j, how)
{
	move(j, FINAL);
	ending[j] = how;
	attempt[j] = 0; losses[j] = 0; blame[j] = 0; alone[j] = 0 /* of no use any more: fewer states to look at */
}

#define BUSY(r, k) (slot[CELL(r, k)] != 0 || (state[k] == PICKED && place[k] == r))
#if JOBS == 1
#define LOAD(r) BUSY(r, 0)
#define KEPT_ALONE(r) (BUSY(r, 0) && alone[0])
#elif JOBS == 2
#define LOAD(r) (BUSY(r, 0) + BUSY(r, 1))
#define KEPT_ALONE(r) ((BUSY(r, 0) && alone[0]) || (BUSY(r, 1) && alone[1]))
#else
#define LOAD(r) (BUSY(r, 0) + BUSY(r, 1) + BUSY(r, 2))
#define KEPT_ALONE(r) ((BUSY(r, 0) && alone[0]) || (BUSY(r, 1) && alone[1]) || (BUSY(r, 2) && alone[2]))
#endif
#define MAY_TAKE(r, j) (LOAD(r) < HOLDS && !KEPT_ALONE(r) && (!alone[j] || LOAD(r) == 0))

inline pick(j, r)
{
	move(j, PICKED);
	attempt[j]++;
	place[j] = r
}

/* The runner gets it. Nobody waits for a row that is dirty, so this is the moment in which counted must hold. */
inline dispatch(j)
{
	assert(counted && d_attempt[j] == attempt[j] && d_state[j] == RUNNING);
	assert(counted && lost[j] < MAX_LOSSES);
	state[j] = RUNNING; /* no change to its row */
	slot[CELL(place[j], j)] = attempt[j];
	if
	:: alive[place[j]] -> has[CELL(place[j], j)] = attempt[j]
	:: else /* it died, which zitd has not seen yet: it cannot tell whether the job had arrived */
		lone_deaths[j] = lone_deaths[j] + (lone_deaths[j] < MAX_BLAME)
	fi
}

/* What waits for what. The mutations here and below, each of which tests/spin/run shows to break a property:
 *   ACK_BEFORE_COMMIT, DISPATCH_BEFORE_COMMIT, ANSWER_BEFORE_COMMIT, RECORD_BEFORE_FILE   an order is not kept
 *   KEY_FORGOTTEN            a submit by a known key begins the job anew
 *   WAITER_STAYS             who was answered is answered again
 *   CANCEL_AFTER_END         a job that has ended can be cancelled
 *   NO_FENCE                 what a runner says is believed, whatever it is about. (Attempt or generation alone would
 *                            do: an attempt never has two runners, nor a runner's life two attempts of a job.)
 *   BLAME_ALL                all that were on a runner are to blame for its death
 *   DEATH_FORGETS            what was on a runner that died does not come back
 *   NO_CLOCKS                a runner that hangs may do so
 *   REPLAY_FORGETS_RUNNING, REPLAY_REPEATS_FINAL, LOSS_NOT_COUNTED   a restart gets rows wrong
 */
#ifdef MUTATE_ACK_BEFORE_COMMIT
#define ACK_MAY(j) true
#else
#define ACK_MAY(j) (!dirty[j])
#endif
#ifdef MUTATE_ANSWER_BEFORE_COMMIT
#define ANSWER_MAY(j) true
#else
#define ANSWER_MAY(j) (!dirty[j])
#endif
#ifdef MUTATE_DISPATCH_BEFORE_COMMIT
#define DISPATCH_MAY(j) true
#else
#define DISPATCH_MAY(j) (!dirty[j])
#endif
#ifdef MUTATE_RECORD_BEFORE_FILE
#define RECORD_MAY(j) true
#else
#define RECORD_MAY(j) (d_file[j])
#endif

/* What zitd does for one job by itself, or because its client wants it. */
proctype zitd_job(byte j)
{
end:	do
	/* a submit, also a second one by the same key: the job is there already */
	:: d_step { up && client[j] == NEW && (j == 0 || state[j - 1] != NONE) ->
		client[j] = TAKEN;
		if
		:: state[j] == NONE -> move(j, QUEUED)
#ifdef MUTATE_KEY_FORGOTTEN
		:: state[j] != NONE -> state[j] = NONE; attempt[j] = 0; move(j, QUEUED)
#else
		:: else
#endif
		fi }
	:: d_step { up && client[j] == TAKEN && ACK_MAY(j) ->
		assert(kept && d_state[j] != NONE);
		client[j] = WAITING; /* it asks at once; ACKED is where it is without a connection */
		waiter[j] = 1 }
	:: d_step { up && client[j] == ACKED ->
		assert(kept && state[j] != NONE); /* it would be unknown_job */
		client[j] = WAITING;
		waiter[j] = 1 }
	:: d_step { up && waiter[j] && state[j] == FINAL && ANSWER_MAY(j) ->
		assert(told_once && client[j] == WAITING && d_state[j] == FINAL && d_end[j] == ending[j]);
		client[j] = ANSWERED;
#ifndef MUTATE_WAITER_STAYS
		waiter[j] = 0
#endif
		}
	:: d_step { up && state[j] == QUEUED && MAY_TAKE(0, j) -> pick(j, 0) }
#if RUNNERS > 1
	:: d_step { up && state[j] == QUEUED && MAY_TAKE(1, j) && LOAD(0) > 0 -> pick(j, 1) }
#endif
	:: d_step { up && state[j] == PICKED && DISPATCH_MAY(j) -> dispatch(j) }
#ifndef MUTATE_NO_CLOCKS
	:: d_step { up && state[j] == RUNNING && hung[place[j]] -> finish(j, ENDED) }
#endif
	:: d_step { up && state[j] == STORED && RECORD_MAY(j) -> finish(j, DONE) }
	od
}

/* Somebody cancels it, or a clock of it ends. */
proctype people(byte j)
{
end:	do
	:: d_step { up && cancels > 0 && (state[j] == QUEUED || state[j] == PICKED || state[j] == RUNNING) ->
		cancels--;
		finish(j, ENDED) }
#ifdef MUTATE_CANCEL_AFTER_END
	:: d_step { up && cancels > 0 && state[j] == FINAL -> cancels--; finish(j, ENDED) }
#endif
	od
}

/* ---- zitd: runners */

/* A job comes back from a runner that is no more. */
inline give_back(j, r, blames, count)
{
	if
	:: state[j] == PICKED && place[j] == r -> move(j, QUEUED)
	:: state[j] == RUNNING && place[j] == r && slot[CELL(r, j)] != 0 ->
		if
		:: !blames -> move(j, QUEUED)
#ifdef MUTATE_BLAME_ALL
		:: blames ->
#else
		:: blames && count > 1 -> alone[j] = 1; move(j, QUEUED)
		:: blames && count == 1 ->
#endif
			alone[j] = 1;
			blame[j]++;
			if
			:: blame[j] >= MAX_BLAME ->
				assert(just && lone_deaths[j] >= MAX_BLAME);
				finish(j, DEAD)
			:: else -> move(j, QUEUED)
			fi
		fi
	:: else
	fi;
	slot[CELL(r, j)] = 0
}

/* It has ended and is buried. */
inline settle(r, blames)
{
	n = 0;
	for (k : 0 .. JOBS - 1) { n = n + (slot[CELL(r, k)] != 0) }
#ifndef MUTATE_DEATH_FORGETS
	for (k : 0 .. JOBS - 1) { give_back(k, r, blames, n) }
#else
	for (k : 0 .. JOBS - 1) { slot[CELL(r, k)] = 0 }
#endif
	/* its successor: when it is ready does not matter, for jobs may wait. A number that nothing unread bears is as
	 * good as a new one, and there are fewer states to look at. */
	generation[r] = (len(said[r]) == 0 -> 1 : generation[r] + 1);
	alive[r] = 1;
	n = 0;
	k = 0
}

/* All that it has goes with it; a ghost remembers who was alone with a death that nobody wanted. */
inline die(r, counts)
{
	n = 0;
	for (k : 0 .. JOBS - 1) { n = n + (has[CELL(r, k)] != 0) }
	for (k : 0 .. JOBS - 1) {
		lone_deaths[k] = lone_deaths[k] + (counts && n == 1 && has[CELL(r, k)] != 0 && lone_deaths[k] < MAX_BLAME);
		has[CELL(r, k)] = 0
	}
	alive[r] = 0;
	hung[r] = 0;
	n = 0;
	k = 0
}

/* The fence: it is about the attempt that this life of this runner has. */
#ifdef MUTATE_NO_FENCE
#define CURRENT(r, j, a, g) true
#else
#define CURRENT(r, j, a, g) (generation[r] == g && slot[CELL(r, j)] == a)
#endif

inline hear(r)
{
	said[r] ? what, j, a, g;
	if
	:: !CURRENT(r, j, a, g) /* dropped */
	:: else ->
		slot[CELL(r, j)] = 0;
		if
#ifndef MUTATE_NO_FENCE
		:: state[j] == FINAL /* it ended meanwhile: the runner has let it go */
#endif
		:: else ->
			if
			:: what == RESULT -> move(j, STORED)
			:: what == FAILED -> finish(j, ENDED)
			:: what == STOPPED
			fi
		fi
	fi;
	j = 0; a = 0; g = 0; what = NONE
}

/* A slot of a job that has ended: the runner was told to let it go. */
#if JOBS == 1
#define OVERDUE(r) (slot[CELL(r, 0)] != 0 && state[0] == FINAL)
#elif JOBS == 2
#define OVERDUE(r) ((slot[CELL(r, 0)] != 0 && state[0] == FINAL) || (slot[CELL(r, 1)] != 0 && state[1] == FINAL))
#else
#define OVERDUE(r) \
	((slot[CELL(r, 0)] != 0 && state[0] == FINAL) || (slot[CELL(r, 1)] != 0 && state[1] == FINAL) || \
	    (slot[CELL(r, 2)] != 0 && state[2] == FINAL))
#endif

proctype zitd_runner(byte r)
{
	byte k, n, j, a, g;
	mtype what = NONE;
end:	do
	:: d_step { up && nempty(said[r]) -> hear(r) }
	/* all that it said before it died is heard first */
	:: d_step { up && !alive[r] && empty(said[r]) -> settle(r, true) }
	/* the end of the kill escalation: what it has else comes back, without blame; what it said is heard later */
	:: d_step { up && alive[r] && hung[r] && OVERDUE(r) -> die(r, false); settle(r, false) }
#ifndef MUTATE_NO_CLOCKS
	/* it hangs, and no job of it has overrun yet */
	:: d_step { up && alive[r] && hung[r] && !OVERDUE(r) && empty(said[r]) -> die(r, true); settle(r, true) }
#endif
	od
}

/* ---- the disk thread */

inline commit(j)
{
	assert(one_end && d_state[j] != FINAL);
	if
	:: state[j] == QUEUED || state[j] == FINAL -> d_state[j] = state[j]
	:: else -> d_state[j] = RUNNING
	fi;
	assert(whole && (ending[j] != DONE || d_file[j]));
	d_end[j] = ending[j];
	dirty[j] = 0;
	if
	:: state[j] == FINAL -> /* likewise */
		d_file[j] = 0;
		lone_deaths[j] = 0;
		lost[j] = 0
	:: else
	fi;
	d_attempt[j] = attempt[j];
	d_losses[j] = losses[j];
	d_blame[j] = blame[j]
}

proctype disk(byte j)
{
end:	do
	:: d_step { up && dirty[j] -> commit(j) }
	:: d_step { up && state[j] == STORED && !d_file[j] -> d_file[j] = 1 }
	od
}

/* ---- runners and clients */

#define CAN_SAY(r, j) (has[CELL(r, j)] != 0 && !hung[r] && nfull(said[r]))

/* What runner r does with job j. The end of a job whose slot it has is its CANCEL. */
proctype work(byte r, j)
{
end:	do
	:: d_step { CAN_SAY(r, j) -> said[r] ! RESULT, j, has[CELL(r, j)], generation[r]; has[CELL(r, j)] = 0 }
	:: d_step { CAN_SAY(r, j) && cancels > 0 ->
		cancels--;
		said[r] ! FAILED, j, has[CELL(r, j)], generation[r]; has[CELL(r, j)] = 0 }
	:: d_step { CAN_SAY(r, j) && state[j] == FINAL ->
		said[r] ! STOPPED, j, has[CELL(r, j)], generation[r];
		has[CELL(r, j)] = 0 }
	:: d_step { CAN_SAY(r, j) && lies > 0 && empty(said[r]) ->
		lies--;
		said[r] ! RESULT, j, has[CELL(r, j)], generation[r];
		said[r] ! RESULT, j, has[CELL(r, j)], generation[r];
		has[CELL(r, j)] = 0 }
	od
}

proctype misfortune(byte r)
{
	byte k, n;
end:	do
	:: d_step { alive[r] && deaths > 0 -> deaths--; die(r, true) }
	:: d_step { alive[r] && !hung[r] && hangs > 0 -> hangs--; hung[r] = 1 }
	od
}

/* Nothing happens any more that need not: what is to be done must be done without it. */
proctype calm()
{
end:	do
	:: d_step { crashes + deaths + hangs + lies + cancels > 0 ->
		crashes = 0; deaths = 0; hangs = 0; lies = 0; cancels = 0 }
	od
}

/* ---- zitd is killed, and comes back */

inline forget_runner(r)
{
	alive[r] = 1; hung[r] = 0; generation[r] = 1; /* its successor, by the time that zitd is back */
	do
	:: nempty(said[r]) -> said[r] ? _, _, _, _
	:: empty(said[r]) -> break
	od
}

/* The connection of its client breaks with it, which begins again where it was sure to be. */
inline forget_job(j)
{
	state[j] = NONE; ending[j] = NONE;
	attempt[j] = 0; losses[j] = 0; blame[j] = 0; place[j] = 0;
	alone[j] = 0; dirty[j] = 0; waiter[j] = 0;
	if
	:: client[j] == TAKEN -> client[j] = NEW
	:: client[j] == WAITING -> client[j] = ACKED
	:: else
	fi
}

/* From the row alone. Its loss, if it was one, is in the row again when that is committed. */
inline replay(j)
{
	attempt[j] = d_attempt[j];
	losses[j] = d_losses[j];
	blame[j] = d_blame[j];
	ending[j] = d_end[j];
	if
#ifdef MUTATE_REPLAY_FORGETS_RUNNING
	:: d_state[j] == RUNNING -> state[j] = NONE
#else
	:: d_state[j] == RUNNING ->
		d_file[j] = 0; /* a leftover */
#ifndef MUTATE_LOSS_NOT_COUNTED
		losses[j]++;
#endif
		if
		:: losses[j] >= MAX_LOSSES -> finish(j, DEAD)
		:: else -> move(j, QUEUED)
		fi
#endif
#ifdef MUTATE_REPLAY_REPEATS_FINAL
	:: d_state[j] == FINAL -> ending[j] = NONE; move(j, QUEUED)
#endif
	:: else -> state[j] = d_state[j]
	fi
}

proctype fate()
{
	byte k, r;
end:	do
	:: d_step { up && crashes > 0 ->
		crashes--;
		up = 0;
		for (k : 0 .. JOBS - 1) { forget_job(k) }
		for (k : 0 .. CELLS - 1) {
			lost[k % JOBS] = lost[k % JOBS] + (has[k] != 0);
			has[k] = 0;
			slot[k] = 0
		}
		for (r : 0 .. RUNNERS - 1) { forget_runner(r) }
		k = 0; r = 0 }
	:: d_step { !up ->
		for (k : 0 .. JOBS - 1) { replay(k) }
		k = 0;
		up = 1 }
	od
}

/* ---- nothing can happen any more */

proctype watch()
{
	byte k;
end:	timeout -> atomic {
		for (k : 0 .. JOBS - 1) {
			assert(ends && d_state[k] == FINAL && client[k] == ANSWERED)
		}
	}
}

/* The worlds that are looked at. Each number multiplies the states, so none has all of them; three jobs on two runners
 * with a crash of zitd are some ten million. */
inline choose_world()
{
	if
#if JOBS == 3
	:: deaths = 1
	:: cancels = 1
#elif RUNNERS == 2
	:: crashes = 1; deaths = 1
	:: hangs = 1; lies = 1; cancels = 1
#elif JOBS == 2
	:: crashes = 2; cancels = 1
	:: deaths = 2; cancels = 1
	:: crashes = 1; hangs = 1
	:: crashes = 1; lies = 1; cancels = 1
#else
	:: crashes = 3; deaths = 1; hangs = 1; lies = 1; cancels = 1
#endif
	fi
}

init
{
	byte k, r;
	atomic {
		choose_world();
		for (k : 0 .. JOBS - 1) {
			run zitd_job(k);
			run disk(k);
			run people(k);
			for (r : 0 .. RUNNERS - 1) { run work(r, k) }
		}
		for (r : 0 .. RUNNERS - 1) {
			run zitd_runner(r);
			run misfortune(r)
		}
		run fate();
		run calm();
		run watch();
		k = 0; r = 0
	}
}

ltl always_ends { [] (client[0] == WAITING -> <> (d_state[0] == FINAL)) }
