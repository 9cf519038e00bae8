# SPDX-License-Identifier: MIT
"""The same jobs on Python's multiprocessing.Pool, started by fork.

usage: peers.py JOB COUNT [PARENT_CPU WORKER_CPU]
Prints the seconds of one task (of one pool for the job life).
"""
import multiprocessing
import os
import sys
import time

WORKERS = 2


def increment(n):
    return n + 1


def warm_up(pool):
    pool.map(increment, range(100), 1)


def apply(pool, count):
    for i in range(count):
        pool.apply(increment, (i,))


def apply_async(pool, count):
    results = [pool.apply_async(increment, (i,)) for i in range(count)]
    for result in results:
        result.get()


def map_default(pool, count):
    pool.map(increment, list(range(count)))


def map_single(pool, count):
    pool.map(increment, list(range(count)), 1)


def imap(pool, count):
    for _ in pool.imap(increment, range(count)):
        pass


def imap_chunks(pool, count):
    for _ in pool.imap(increment, range(count), 1000):
        pass


def life(fork, count):
    """A pool made, one task done, the pool closed and joined."""
    start = time.monotonic()
    for _ in range(count):
        with fork.Pool(WORKERS) as pool:
            pool.apply(increment, (1,))
            pool.close()
            pool.join()
    return (time.monotonic() - start) / count


def pin(cpu):
    os.sched_setaffinity(0, {cpu})


def measure(fork, job, count, cpus):
    options = {}
    if cpus:
        pin(cpus[0])
        options = {"initializer": pin, "initargs": (cpus[1],)}
    with fork.Pool(WORKERS, **options) as pool:
        warm_up(pool)
        start = time.monotonic()
        job(pool, count)
        return (time.monotonic() - start) / count


JOBS = (apply, apply_async, map_default, map_single, imap, imap_chunks)


def main(name, count, *cpus):
    fork = multiprocessing.get_context("fork")
    if name == "life":
        print(life(fork, int(count)))
    else:
        job = next(job for job in JOBS if job.__name__ == name)
        print(measure(fork, job, int(count), [int(cpu) for cpu in cpus]))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
