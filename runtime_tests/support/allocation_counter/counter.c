/* Counts the bytes that a process has allocated and not freed, and their peak.

   Preloaded (LD_PRELOAD), so that it sees every allocator call of Python, NumPy and the runtime.
   A piece counts with malloc_usable_size: what the allocator really set aside, and what free() can
   subtract again without a table of its own. Tests read and reset the figures through ctypes. */

#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static _Atomic int64_t live, peak;

static void *counted(void *piece) {
  if (piece == NULL) return NULL;
  int64_t size = (int64_t)malloc_usable_size(piece);
  int64_t now = atomic_fetch_add(&live, size) + size;
  int64_t before = atomic_load(&peak);
  while (now > before && !atomic_compare_exchange_weak(&peak, &before, now)) {
  }
  return piece;
}

static void discounted(void *piece) {
  if (piece != NULL) atomic_fetch_sub(&live, (int64_t)malloc_usable_size(piece));
}

void *malloc(size_t size) { return counted(__libc_malloc(size)); }

void *calloc(size_t count, size_t size) { return counted(__libc_calloc(count, size)); }

void free(void *piece) {
  discounted(piece);
  __libc_free(piece);
}

/* While a piece moves, the old and the new one both exist; this sees only the new one's size. */
void *realloc(void *piece, size_t size) {
  int64_t before = piece == NULL ? 0 : (int64_t)malloc_usable_size(piece);
  void *moved = __libc_realloc(piece, size);
  if (moved != NULL || size == 0) atomic_fetch_sub(&live, before);
  return counted(moved);
}

void *memalign(size_t alignment, size_t size) {
  return counted(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **piece, size_t alignment, size_t size) {
  if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0)
    return EINVAL;
  void *made = memalign(alignment, size);
  if (made == NULL && size != 0) return ENOMEM;
  *piece = made;
  return 0;
}

/* The peak forgets what was before; the level stays. */
void counter_reset(void) { atomic_store(&peak, atomic_load(&live)); }

int64_t counter_live(void) { return atomic_load(&live); }

int64_t counter_peak(void) { return atomic_load(&peak); }
