// SPDX-License-Identifier: MIT
// The pipe protocol of one worker: no step of either side, and no death of the
// worker between any two of them, leaves anybody waiting for ever; each item is
// run at most once and settled exactly once.
//
// A chunk is one item here, its message and its result CELLS cells long, and a
// pipe holds ROOM of them, so that neither fits into a pipe. What the parent
// has not written waits in its own memory (`unsent`). With BLOCKING the parent
// waits in its writes instead, as most pools do: spin then finds the deadlock.

#define ITEMS 3
#define CELLS 3
#define ROOM 2
#define PREFETCH 2
#define DEATHS 2

#define NOBODY 255

// The pipes of the worker of now; whose read end is closed takes no more.
chan request = [ROOM] of { byte };
chan reply = [ROOM] of { byte };
bool alive = false;
bool finished = false;  // the parent sends no more

// The ledger, which outlives the worker: which items are open to it, the one
// claimed last, and how many cells of whole results it has made and sent.
bool opened[ITEMS];
bool claimed[ITEMS];
byte made = 0;
byte sent = 0;
byte order[ITEMS];  // of the results made by this worker
byte results = 0;

// What is to be true in the end.
byte runs[ITEMS];
byte settled[ITEMS];
byte lost = 0;
byte deaths = 0;

// One more way out of every step of the worker, those it is blocked in too.
#define OR_DIES :: deaths < DEATHS -> goto dead

proctype worker() {
  byte item, cell;
next:
  // Reads a whole message. End of file: no more will come.
  cell = 0;
  do
  :: cell < CELLS && nempty(request) -> request?item; cell++
  :: cell == 0 && empty(request) && finished -> goto over
  :: cell == CELLS -> break
  OR_DIES
  od;
  // Claims it, unless it has been taken back.
  if
  :: atomic { opened[item] ->
      opened[item] = false;
      claimed[item] = true;
      runs[item]++ }
  :: !opened[item] -> goto next
  OR_DIES
  fi;
  // Runs it; its result is finished by one store, of the ledger's `end`.
  if
  :: atomic { order[results] = item; results++; made = made + CELLS }
  OR_DIES
  fi;
  do
  :: atomic { sent < made && nfull(reply) ->
      reply!order[sent / CELLS];
      sent++ }
  :: sent == made -> break
  OR_DIES
  od;
  goto next;
dead:
  deaths++;
over:
  alive = false
}

byte unsent = 0;         // cells in the parent's memory
byte queue[ITEMS];       // items sent to this worker and not settled, in order
byte first, last;
byte received;           // cells read from this worker
byte todo[ITEMS];        // items not sent
byte todos;

inline settle_result(item) {
  assert(item == queue[first]);
  settled[item]++;
  queue[first] = 0;
  first++
}

inline start() {
  atomic {
    do
    :: request?_
    :: reply?_
    :: empty(request) && empty(reply) -> break
    od;
    made = 0; sent = 0; results = 0; received = 0; unsent = 0;
    first = 0; last = 0;
    alive = true;
    run worker()
  }
}

// The item of the n-th unsent cell.
#define UNSENT_ITEM queue[last - (unsent + CELLS - 1) / CELLS]

active proctype parent() {
  byte item, i;
  d_step {
    for (i : 0 .. ITEMS - 1) { todo[i] = ITEMS - 1 - i }
    todos = ITEMS;
    i = 0
  }
  start();
  do
  // Room for one more: it is put into memory whole.
  :: todos > 0 && last - first < PREFETCH && alive && !finished ->
    atomic {
      todos--;
      item = todo[todos];
      todo[todos] = 0;
      queue[last] = item;
      last++;
      opened[item] = true;
      unsent = unsent + CELLS;
      item = 0
    }
#ifdef BLOCKING
    do
    :: atomic { unsent > 0 && alive && nfull(request) ->
        request!UNSENT_ITEM;
        unsent-- }
    :: unsent == 0 || !alive -> break
    od
#else
  :: atomic { unsent > 0 && alive && nfull(request) ->
      request!UNSENT_ITEM;
      unsent-- }
#endif
  // The last cell of a result settles it.
  :: atomic { reply?item ->
      received++;
      if
      :: received % CELLS == 0 -> settle_result(item)
      :: else
      fi;
      item = 0 }
  // An item that was not started is taken back, and is sent again later (here:
  // at once counted as cancelled).
  :: atomic { first < last && opened[queue[last - 1]] && unsent == 0 &&
              todos == 0 ->
      opened[queue[last - 1]] = false;
      settled[queue[last - 1]]++;
      queue[last - 1] = 0;
      last-- }
  // A death, once the pipe is drained: finished results are in the ledger, the
  // item that was claimed and has none is lost, all else goes back.
  :: atomic { !alive && empty(reply) && !finished ->
      do
      :: received < made ->
        assert(received >= sent || received / CELLS < results);
        i = order[received / CELLS];
        settle_result(i);
        received = (received / CELLS + 1) * CELLS
      :: else -> break
      od;
      do
      :: first < last ->
        last--;
        item = queue[last];
        queue[last] = 0;
        if
        :: claimed[item] -> settled[item]++; lost++; assert(first == last)
        :: else -> opened[item] = false; todo[todos] = item; todos++
        fi
      :: else -> break
      od;
      item = 0; i = 0 }
    start()
  :: todos == 0 && first == last && !finished -> finished = true
  :: finished && !alive -> break
  od;
  for (i : 0 .. ITEMS - 1) {
    assert(settled[i] == 1);
    assert(runs[i] <= 1)
  }
  assert(lost <= deaths)
}
