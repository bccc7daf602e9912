/* float16 at the processor's own speed: what `kernels.py` asks for in numpy's stead, the same bit for bit.
 *
 * numpy converts float16 in software, value by value, some ten times slower than it calculates. Processors
 * convert eight at a time (x86: F16C). Arithmetic is float32, each operation rounded on its own, hence
 * -ffp-contract=off: a fused multiply-add would round once less. float16 is rounded to nearest, ties to even.
 *
 * Arrays are (Z, Y, X) or (K, Z, Y, X). All but the last axis have any stride, given in bytes; values of the last
 * lie side by side. Nothing here allocates, knows of Python or of threads: ctypes lets go of Python's lock.
 */
#include <stdint.h>
#include <string.h>

#define VERSION 2 /* of the functions below; `kernels.py` takes no library of another */
#define WIDTH 8

typedef float f8 __attribute__((vector_size(32)));
typedef uint16_t h8 __attribute__((vector_size(16))); /* the bits of eight float16 */
typedef int32_t i8 __attribute__((vector_size(32)));
typedef int8_t b8 __attribute__((vector_size(8)));

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#define FAST __attribute__((target("avx2,f16c")))
#define INLINE static inline __attribute__((always_inline, target("avx2,f16c")))

INLINE f8 widened(h8 bits) { return _mm256_cvtph_ps((__m128i)bits); }
INLINE h8 narrowed(f8 values) { return (h8)_mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT); }
INLINE b8 bytes_of(i8 mask) { /* as __builtin_convertvector below, which GCC 12 takes apart */
    __m256i wide = (__m256i)mask;
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    return (b8)_mm_cvtsi128_si64(_mm_packs_epi16(words, words));
}

/* The library is built for any x86-64 and asks here what it runs on. */
static int supported(void) {
    unsigned a, b, c, d;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#else
#define FAST
#define INLINE static inline __attribute__((always_inline))
typedef _Float16 n8 __attribute__((vector_size(16))); /* no such type: no library, and numpy does it */

INLINE f8 widened(h8 bits) { return __builtin_convertvector((n8)bits, f8); }
INLINE b8 bytes_of(i8 mask) { return __builtin_convertvector(mask, b8); }
INLINE h8 narrowed(f8 values) { return (h8)__builtin_convertvector(values, n8); }
static int supported(void) { return 1; }
#endif

INLINE h8 get_half(const void *from) { h8 bits; memcpy(&bits, from, sizeof bits); return bits; }
INLINE f8 get_single(const void *from) { f8 values; memcpy(&values, from, sizeof values); return values; }
INLINE void put_single(void *to, f8 values) { memcpy(to, &values, sizeof values); }
INLINE f8 larger(f8 a, f8 b) { i8 first = a > b; return (f8)((first & (i8)a) | (~first & (i8)b)); }
INLINE h8 not_finite(h8 bits) { return (h8)((bits & 0x7C00) == 0x7C00); }
INLINE int any(h8 flags) { uint64_t two[2]; memcpy(two, &flags, sizeof two); return (two[0] | two[1]) != 0; }

/* VERSION, or 0 where this processor cannot run what follows. */
int spine_kernels(void) { return supported() ? VERSION : 0; }

/* --- sums of float16: merge and divide ------------------------------------------------------------------ */

enum what { ADD_HALVES, ADD_SINGLES, DIVIDE };

/* What becomes of eight sums. `values` are logits, `weights` float32; DIVIDE has float16 weights and no values. */
INLINE h8 step(enum what what, const char *sums, const char *values, const char *weights) {
    f8 sum = widened(get_half(sums));
    if (what == DIVIDE) return narrowed(sum / widened(get_half(weights)));
    f8 logits = what == ADD_HALVES ? widened(get_half(values)) : get_single(values);
    return narrowed(sum + logits * get_single(weights));
}

INLINE h8 row(enum what what, char *sums, const char *values, const char *weights, int64_t count) {
    const int64_t value = what == ADD_SINGLES ? 4 : what == ADD_HALVES ? 2 : 0, weight = what == DIVIDE ? 2 : 4;
    if (count < WIDTH) { /* too short for one step: through room for eight */
        char few[3][4 * WIDTH] = {{0}};
        memcpy(few[0], sums, 2 * count);
        memcpy(few[1], values, value * count);
        memcpy(few[2], weights, weight * count);
        h8 result = step(what, few[0], few[1], few[2]);
        memcpy(sums, &result, 2 * count);
        memset((char *)&result + 2 * count, 0, 2 * (WIDTH - count)); /* 0 / 0 beside the row is no error */
        return not_finite(result);
    }
    /* The last eight reach back over those before them: worked out from the sums as they were, stored last. */
    const int64_t end = count - WIDTH;
    h8 last = step(what, sums + 2 * end, values + value * end, weights + weight * end);
    h8 bad = not_finite(last);
    for (int64_t x = 0; x < end; x += WIDTH) {
        h8 result = step(what, sums + 2 * x, values + value * x, weights + weight * x);
        memcpy(sums + 2 * x, &result, sizeof result);
        bad |= not_finite(result);
    }
    memcpy(sums + 2 * end, &last, sizeof last);
    return bad;
}

/* Slice by slice, so that a slice's weights stay in the cache for all classes. */
INLINE int all_rows(enum what what, const int64_t *shape, char *sums, const int64_t *by, const char *values,
                    const int64_t *values_by, const char *weights, const int64_t *weights_by) {
    h8 bad = {0};
    for (int64_t z = 0; z < shape[1]; z++)
        for (int64_t k = 0; k < shape[0]; k++)
            for (int64_t y = 0; y < shape[2]; y++)
                bad |= row(what, sums + k * by[0] + z * by[1] + y * by[2],
                           what == DIVIDE ? sums : values + k * values_by[0] + z * values_by[1] + y * values_by[2],
                           weights + z * weights_by[0] + y * weights_by[1], shape[3]);
    return any(bad);
}

/* sums (K, Z, Y, X) += logits (K, Z, Y, X) * weights (Z, Y, X); not 0 if a sum is no longer finite. */
FAST int spine_merge(const int64_t *shape, char *sums, const int64_t *by, const char *logits, const int64_t *logits_by,
                     int halves, const char *weights, const int64_t *weights_by) {
    return halves ? all_rows(ADD_HALVES, shape, sums, by, logits, logits_by, weights, weights_by)
                  : all_rows(ADD_SINGLES, shape, sums, by, logits, logits_by, weights, weights_by);
}

/* sums (K, Z, Y, X) /= weights (Z, Y, X), float16 too; not 0 if a mean is not finite. */
FAST int spine_divide(const int64_t *shape, char *sums, const int64_t *by, const char *weights,
                      const int64_t *weights_by) {
    return all_rows(DIVIDE, shape, sums, by, 0, 0, weights, weights_by);
}

/* --- where something was found ---------------------------------------------------------------------------- */

/* found |= values > least, of eight; bytes of 0 or 1. */
INLINE void look(uint8_t *found, const void *values, const void *least) {
    b8 bytes, above = bytes_of(widened(get_half(values)) > widened(get_half(least)));
    memcpy(&bytes, found, sizeof bytes);
    bytes |= above & 1;
    memcpy(found, &bytes, sizeof bytes);
}

/* found (Z, Y, X), side by side, becomes 1 where a later class of `logits` (K, Z, Y, X) float16 lies above the first;
 * of `regions`, where one lies above 0. */
FAST void spine_foreground(const int64_t *shape, const char *logits, const int64_t *by, int regions, uint8_t *found) {
    const h8 zeros = {0};
    const int64_t count = shape[3];
    for (int64_t z = 0; z < shape[1]; z++)
        for (int64_t y = 0; y < shape[2]; y++, found += count)
            for (int64_t k = regions ? 0 : 1; k < shape[0]; k++) {
                const char *least = logits + z * by[1] + y * by[2], *values = least + k * by[0];
                for (int64_t x = 0; x + WIDTH <= count; x += WIDTH)
                    look(found + x, values + 2 * x, regions ? (const char *)&zeros : least + 2 * x);
                if (count % WIDTH == 0) continue;
                if (count > WIDTH) { /* the last eight, some of them for the second time */
                    const int64_t x = count - WIDTH;
                    look(found + x, values + 2 * x, regions ? (const char *)&zeros : least + 2 * x);
                    continue;
                }
                char few[3][2 * WIDTH] = {{0}};
                memcpy(few[0], found, count);
                memcpy(few[1], values, 2 * count);
                if (!regions) memcpy(few[2], least, 2 * count);
                look((uint8_t *)few[0], few[1], few[2]);
                memcpy(found, few[0], count);
            }
}

/* --- from the coarse grid to classes on the fine one ------------------------------------------------------ */

/* How one axis is interpolated: value i of `to` is weight[i] * value index[i] + weight[to + i] * value index[to + i]. */
struct axis { int64_t number, to; const int32_t *index; const float *weight; };

/* out (before, to, after) from in (before, from, after). */
FAST static void along(const struct axis *axis, const float *in, float *restrict out, int64_t before, int64_t from,
                       int64_t after) {
    const int64_t to = axis->to;
    const int32_t *low = axis->index, *high = low + to;
    const float *low_weight = axis->weight, *high_weight = low_weight + to;
    for (; before > 0; before--, in += from * after) {
        if (after == 1) { /* single values from here and there */
            for (int64_t i = 0; i < to; i++) out[i] = low_weight[i] * in[low[i]] + high_weight[i] * in[high[i]];
            out += to;
            continue;
        }
        for (int64_t i = 0; i < to; i++, out += after) {
            const float *a = in + low[i] * after, *b = in + high[i] * after, wa = low_weight[i], wb = high_weight[i];
            for (int64_t j = 0; j < after; j++) out[j] = wa * a[j] + wb * b[j];
        }
    }
}

/* The box `halves` of one class, (Z, Y, X) of `shape`, along three axes in turn; in which half of `room` it ends. */
FAST static float *interpolated(const int64_t *shape, const char *halves, const int64_t *by, const struct axis *axes,
                                float *room, int64_t half_room) {
    int64_t size[3] = {shape[0], shape[1], shape[2]};
    float *in = room, *out = room + half_room;
    for (int64_t z = 0, at = 0; z < size[0]; z++)
        for (int64_t y = 0; y < size[1]; y++, at += size[2])
            for (int64_t x = 0; x < size[2]; x += WIDTH) { /* what is written past a row's end, the next row covers */
                h8 bits = {0};
                const char *from = halves + z * by[0] + y * by[1] + 2 * x;
                if (size[2] - x < WIDTH) memcpy(&bits, from, 2 * (size[2] - x));
                else bits = get_half(from);
                put_single(in + at + x, widened(bits));
            }
    for (int turn = 0; turn < 3; turn++) {
        const int64_t number = axes[turn].number;
        int64_t before = 1, after = 1;
        for (int64_t i = 0; i < number; i++) before *= size[i];
        for (int64_t i = number + 1; i < 3; i++) after *= size[i];
        along(&axes[turn], in, out, before, size[number], after);
        size[number] = axes[turn].to;
        float *done = out;
        out = in, in = done;
    }
    return in;
}

/* classes, `count` side by side: the number of the largest of `logits` (K, Z, Y, X) float16 after interpolation, the
 * first of equal ones; or, where `regions` has a number for each, the last of those above `limit`, else 0. `rounded`
 * says whether interpolated values are float16's. `room`: twice half_room for the largest array on the way, and
 * `count` more; all of these, and classes, have room for eight beyond. */
FAST void spine_classify(const int64_t *shape, const char *logits, const int64_t *by, const struct axis *axes,
                         const uint8_t *regions, float limit, int rounded, float *room, int64_t half_room,
                         uint8_t *classes, int64_t count) {
    float *best = room + 2 * half_room;
    memset(classes, 0, count);
    for (int64_t k = 0; k < shape[0]; k++) {
        const float *fine = interpolated(shape + 1, logits + k * by[0], by + 1, axes, room, half_room);
        for (int64_t i = 0; i < count; i += WIDTH) {
            f8 values = get_single(fine + i), least = (f8){0} + limit;
            if (rounded) values = widened(narrowed(values));
            if (!regions) {
                least = k == 0 ? values : get_single(best + i);
                put_single(best + i, k == 0 ? values : larger(values, least));
            }
            b8 before, above = bytes_of(values > least);
            memcpy(&before, classes + i, sizeof before);
            before = (before & ~above) | (above & (int8_t)(regions ? regions[k] : k));
            memcpy(classes + i, &before, sizeof before);
        }
    }
}
