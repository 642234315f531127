// Every thread begins with a share of the chunks of its own, which neighbours in memory, and then helps the others.
// A share's claim word holds (generation << 32 | next chunk). A chunk is claimed by a compare-and-swap on it, so a
// worker that wakes late, in a generation that has ended, can claim nothing.
#define _GNU_SOURCE
#include "CTensorKernels.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

#if defined(__x86_64__) || defined(__i386__)
#define cpu_relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define cpu_relax() __asm__ volatile("yield")
#else
#define cpu_relax() ((void)0)
#endif

int ek_usable_processors(void) {
#if defined(__linux__)
  // Two threads on one processor were measured at half the speed of one.
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0 && CPU_COUNT(&mask) > 0) return CPU_COUNT(&mask);
#endif
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count > 0 && count < 1 << 20 ? (int)count : 1;
}

enum { SPINS = 3000 };

typedef void (*body_function)(void *, int);

// More threads than this share shares.
enum { SHARES = 16 };

typedef struct {
  _Alignas(128) _Atomic uint64_t claim;
} ek_share;

typedef struct ek_seat {
  ek_pool *pool;
  int share;
} ek_seat;

struct ek_pool {
  ek_share shares[SHARES];
  _Alignas(128) _Atomic uint32_t unfinished;    // chunks not yet done in this generation
  _Alignas(128) _Atomic uint32_t generation;    // what sleeping workers wait on
  _Atomic uint32_t sleepers;
  _Atomic int stop;
  _Atomic int chunks;
  _Atomic(body_function) body;
  _Atomic(void *) context;
  int thread_count;    // workers, without the caller
  bool measures;
  uint64_t forks, waited_ns;    // the caller's
  pthread_t *threads;
  struct ek_seat *seats;
#if !defined(__linux__)
  pthread_mutex_t mutex;
  pthread_cond_t condition;
#endif
};

static void sleep_until_changed(ek_pool *pool, uint32_t seen) {
  atomic_fetch_add(&pool->sleepers, 1);
#if defined(__linux__)
  syscall(SYS_futex, (uint32_t *)&pool->generation, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
#else
  pthread_mutex_lock(&pool->mutex);
  while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->condition, &pool->mutex);
  pthread_mutex_unlock(&pool->mutex);
#endif
  atomic_fetch_sub(&pool->sleepers, 1);
}

static void wake_all(ek_pool *pool) {
#if defined(__linux__)
  syscall(SYS_futex, (uint32_t *)&pool->generation, FUTEX_WAKE_PRIVATE, pool->thread_count, NULL, NULL, 0);
#else
  pthread_mutex_lock(&pool->mutex);
  pthread_cond_broadcast(&pool->condition);
  pthread_mutex_unlock(&pool->mutex);
#endif
}

static void wake_sleepers(ek_pool *pool) {
  if (atomic_load(&pool->sleepers) > 0) wake_all(pool);
}

static int share_count(const ek_pool *pool) {
  return pool->thread_count + 1 < SHARES ? pool->thread_count + 1 : SHARES;
}

// Claims and runs chunks of one generation until none is left, those of share `first` before the others.
static void work(ek_pool *pool, uint32_t generation, int first) {
  int count = share_count(pool);
  uint32_t finished = 0;
  for (int i = 0; i < count; i++) {
    int share = (first + i) % count;
    _Atomic uint64_t *word = &pool->shares[share].claim;
    for (;;) {
      uint64_t claim = atomic_load_explicit(word, memory_order_acquire);
      if ((uint32_t)(claim >> 32) != generation) break;
      int64_t chunks = atomic_load_explicit(&pool->chunks, memory_order_acquire);
      body_function body = atomic_load_explicit(&pool->body, memory_order_acquire);
      void *context = atomic_load_explicit(&pool->context, memory_order_acquire);
      int64_t chunk = (int64_t)(uint32_t)claim;
      if (chunk >= chunks * (share + 1) / count) break;
      // The swap succeeds only if the claim word is unchanged. The caller closes all shares before it writes
      // anything of the next generation, so body, context and chunks belong to this one.
      if (!atomic_compare_exchange_weak_explicit(word, &claim, claim + 1, memory_order_acq_rel,
                                                 memory_order_relaxed))
        continue;
      body(context, (int)chunk);
      finished++;
    }
  }
  if (finished) atomic_fetch_sub_explicit(&pool->unfinished, finished, memory_order_acq_rel);
}

static void *worker(void *argument) {
  ek_seat *seat = argument;
  ek_pool *pool = seat->pool;
  uint32_t seen = 0;
  for (;;) {
    uint32_t now = atomic_load_explicit(&pool->generation, memory_order_acquire);
    for (int spin = 0; now == seen && spin < SPINS; spin++) {
      cpu_relax();
      now = atomic_load_explicit(&pool->generation, memory_order_acquire);
    }
    if (now == seen) {
      sleep_until_changed(pool, seen);
      continue;
    }
    if (atomic_load_explicit(&pool->stop, memory_order_acquire)) return NULL;
    seen = now;
    work(pool, now, seat->share);
  }
}

ek_pool *ek_pool_create(int threads) {
  ek_pool *pool = aligned_alloc(128, (sizeof(ek_pool) + 127) & ~(size_t)127);
  if (!pool) return NULL;
  *pool = (ek_pool){0};
#if !defined(__linux__)
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->condition, NULL);
#endif
  pool->threads = calloc(threads > 1 ? (size_t)threads : 1, sizeof(pthread_t));
  pool->seats = calloc(threads > 1 ? (size_t)threads : 1, sizeof(ek_seat));
  if (!pool->threads || !pool->seats) {
    free(pool->threads);
    free(pool->seats);
    free(pool);
    return NULL;
  }
  for (int i = 0; i + 1 < threads; i++) {
    pool->seats[i] = (ek_seat){pool, (i + 1) % SHARES};
    if (pthread_create(&pool->threads[i], NULL, worker, &pool->seats[i]) != 0) {
      ek_pool_destroy(pool);
      return NULL;
    }
    pool->thread_count++;
  }
  return pool;
}

void ek_pool_destroy(ek_pool *pool) {
  atomic_store(&pool->stop, 1);
  atomic_fetch_add(&pool->generation, 1);
  wake_all(pool);
  for (int i = 0; i < pool->thread_count; i++) pthread_join(pool->threads[i], NULL);
#if !defined(__linux__)
  pthread_mutex_destroy(&pool->mutex);
  pthread_cond_destroy(&pool->condition);
#endif
  free(pool->threads);
  free(pool->seats);
  free(pool);
}

void ek_pool_measure(ek_pool *pool, bool measures) {
  pool->measures = measures;
  pool->forks = pool->waited_ns = 0;
}

uint64_t ek_pool_waited(const ek_pool *pool, uint64_t *forks) {
  *forks = pool->forks;
  return pool->waited_ns;
}

static uint64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void ek_pool_run(ek_pool *pool, int chunks, void (*body)(void *, int), void *context) {
  if (chunks <= 0) return;
  if (chunks == 1 || pool->thread_count == 0) {
    for (int i = 0; i < chunks; i++) body(context, i);
    return;
  }
  uint32_t generation = atomic_load_explicit(&pool->generation, memory_order_relaxed) + 1;
  int count = share_count(pool);
  for (int i = 0; i < count; i++)
    atomic_store_explicit(&pool->shares[i].claim, (uint64_t)generation << 32 | INT32_MAX, memory_order_release);
  atomic_store_explicit(&pool->body, body, memory_order_release);
  atomic_store_explicit(&pool->context, context, memory_order_release);
  atomic_store_explicit(&pool->chunks, chunks, memory_order_release);
  atomic_store_explicit(&pool->unfinished, (uint32_t)chunks, memory_order_release);
  for (int i = 0; i < count; i++)
    atomic_store_explicit(
        &pool->shares[i].claim, (uint64_t)generation << 32 | (uint64_t)((int64_t)chunks * i / count),
        memory_order_release);
  // Sequentially consistent against a worker's increment of `sleepers`: either it sees the new generation and
  // does not sleep, or we see that it sleeps.
  atomic_store(&pool->generation, generation);
  wake_sleepers(pool);
  work(pool, generation, 0);
  uint64_t done = pool->measures ? nanoseconds() : 0;
  // Only chunks in progress elsewhere are waited for. A worker that lost its cpu in the middle of one gets the cpu
  // that we give up.
  for (int spin = 0; atomic_load_explicit(&pool->unfinished, memory_order_acquire) != 0; spin++) {
    if (spin < 20000) cpu_relax();
    else sched_yield();
  }
  if (pool->measures) {
    pool->forks++;
    pool->waited_ns += nanoseconds() - done;
  }
}
