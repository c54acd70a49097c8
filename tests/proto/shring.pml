/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One direction of docs/shring-protocol.md: a writer and a reader with tiny rings, each
 * access to a shared word one step of its own (copying bytes is one step: whoever is too
 * early or too late for one of them is so for all). That is what sequentially consistent
 * accesses promise; where the proof needs that promise, a fault takes it away.
 *
 * Claims, over all interleavings and all sizes of each write and read:
 *  - nobody sleeps for ever (no end state that is not valid);
 *  - the bytes arrive, all and in order, and none is overwritten before it was read;
 *  - the end of the stream comes behind the last byte;
 *  - no honest index is refused, though counters wrap;
 *  - a dead writer is met with a reset or the end, and a sleeping writer with a dead reader.
 *
 * -DFAULT=n puts one mistake in; shring_model.sh expects spin to find each:
 *   1  reader: looks before it arms, not after        (lost wake-up)
 *   2  writer: reads the ticket before it stores head (store buffering: acquire/release)
 *   3  reader: head first, then state                 (bytes lost at the end)
 *   4  reader: stores tail before it has copied       (bytes overwritten)
 *   5  writer: stores head before it has copied       (bytes not there)
 *   6  reader: never rings
 *   7  both: tickets are a flag (always 1), rung for once
 *   8  reader: takes the bell's count after it has looked, before it sleeps
 *   9  reader: dead peer's notice read after head     (bytes lost)
 *  10  writer: no bell with the end of the stream
 */
#ifndef FAULT
#define FAULT 0
#endif

#define SIZE	4	/* of the ring */
#define QUARTER 2	/* that must be free for a writer to get up */
#define WRAP	8	/* counters are modulo this; more than SIZE, as 2^32 is */
#ifndef TOTAL
#define TOTAL	5	/* bytes of the stream */
#endif
#define START	6	/* of the counters, so that they wrap */

#define DIFF(a, b) (((a) + WRAP - (b)) % WRAP)

/* shared memory */
byte ring[SIZE];
byte head = START, tail = START;
bool finished, done;
byte reader_ticket, writer_ticket;

/* eventfds: a count of bells, of which only zero or not matters */
bool reader_bell, writer_bell;

/* of the owners: the peer is dead */
bool writer_dead, reader_dead;
bool writer_gone, reader_gone;

byte given;	/* bytes whose head was stored */

/* A side may die between any two of its steps (DEATH), and the other one's owner learns it. */
#ifdef DEATH
active proctype reaper()
{
	if
	:: atomic { writer_dead = true; }
	   writer_gone = true;
	   reader_bell = true;
	:: atomic { reader_dead = true; }
	   reader_gone = true;
	   writer_bell = true;
	:: skip
	fi
}
#endif

active proctype writer()
{
	byte pos = START, seen = START, n, i, t, rung, ticket, sent;

	{
	do
	:: sent < TOTAL ->
		if
		:: done || reader_gone -> goto off
		:: else
		fi;
		t = tail;
		assert(DIFF(t, seen) <= DIFF(pos, seen));
		seen = t;
		if
		:: DIFF(pos, seen) == SIZE ->
			/* S1 */
			ticket++;
			writer_ticket = (FAULT == 7 -> 1 : ticket);
			/* S2 */
			t = tail;
			assert(DIFF(t, seen) <= DIFF(pos, seen));
			seen = t;
			if
			:: SIZE - DIFF(pos, seen) >= QUARTER || done || reader_gone
			:: else ->
				/* S3 */
				atomic { writer_bell -> writer_bell = false; }
			fi;
			/* S4 */
			writer_ticket = 0;
		:: else ->
			/* Any number of bytes that fits. */
			atomic {
				n = 1;
				do
				:: n < SIZE - DIFF(pos, seen) && sent + n < TOTAL -> n++
				:: break
				od
			}
			if
			:: FAULT == 5 -> head = (pos + n) % WRAP
			:: else
			fi;
			d_step {
				i = 0;
				do
				:: i < n -> ring[(pos + i) % SIZE] = sent + i; i++
				:: else -> break
				od;
				pos = (pos + n) % WRAP;
				sent = sent + n;
				i = 0;
				n = 0
			}
			if
			:: FAULT == 2 -> t = reader_ticket; head = pos
			/* W1, W2; "given" belongs to the claim, not to the protocol */
			:: else -> atomic { head = pos; given = sent }; t = reader_ticket
			fi;
			if
			:: t != 0 && t != rung -> rung = t; reader_bell = true
			:: else
			fi;
			t = 0
		fi
	:: else -> break
	od;
#ifdef IDLE
	goto off;
#endif
	finished = true;
	if
	:: FAULT == 10
	:: else -> reader_bell = true; writer_bell = true
	fi;
off:	skip
	} unless { writer_dead }
}

active proctype reader()
{
	byte pos = START, seen = START, n, i, h, t, rung, ticket, got;
	bool fin, gone, armed;

	{
	skip;
look:	if
	:: FAULT == 3 || FAULT == 9 -> h = head
	:: else
	fi;
	gone = writer_gone;
	fin = finished;
	if
	:: FAULT == 3 || FAULT == 9
	:: else -> h = head
	fi;
	assert(DIFF(h, seen) <= SIZE - DIFF(seen, pos));
	seen = h;
	if
	:: seen != pos -> goto take
	:: seen == pos && fin -> goto end
	:: seen == pos && !fin && gone -> goto reset
	:: else
	fi;
	if
	:: armed && FAULT != 1 ->
		if
		:: FAULT == 8 -> reader_bell = false
		:: else
		fi;
		/* S3 */
		atomic { reader_bell -> reader_bell = false; }
		/* S4 */
		reader_ticket = 0;
		armed = false
	:: else ->
		/* S1; S2 is at "look" */
		ticket++;
		reader_ticket = (FAULT == 7 -> 1 : ticket);
		armed = true;
		if
		:: FAULT == 1 ->
			atomic { reader_bell -> reader_bell = false; }
			reader_ticket = 0;
			armed = false
		:: else
		fi
	fi;
	goto look;

take:	if
	:: armed -> reader_ticket = 0; armed = false
	:: else
	fi;
	atomic {
		n = 1;
		do
		:: n < DIFF(seen, pos) -> n++
		:: break
		od
	}
	if
	:: FAULT == 4 -> tail = (pos + n) % WRAP
	:: else
	fi;
	d_step {
		i = 0;
		do
		:: i < n ->
			assert(ring[(pos + i) % SIZE] == got);
			got++;
			i++
		:: else -> break
		od;
		pos = (pos + n) % WRAP;
		i = 0;
		n = 0;
		h = 0
	}
	/* W1 */
	tail = pos;
	if
	:: SIZE - DIFF(seen, pos) >= QUARTER && FAULT != 6 ->
		/* W2 */
		t = writer_ticket;
		if
		:: t != 0 && t != rung -> rung = t; writer_bell = true
		:: else
		fi;
		t = 0
	:: else
	fi;
#ifdef IDLE
	/* No end comes to its rescue if it misses a bell. */
	if
	:: got == TOTAL -> goto off
	:: else
	fi;
#endif
#ifdef GIVE_UP
	/* At any time it may say that it reads no more: the writer must end. */
	if
	:: done = true; reader_bell = true; writer_bell = true; goto off
	:: skip
	fi;
#endif
	goto look;

end:	assert(got == TOTAL);
	goto off;
reset:	assert(got == given);
off:	skip
	} unless { reader_dead }
}
