/*
 * What tests see of the emulated cuBLASLt.
 *
 * It has four ways of making a product, best guess first. GUESS, LIGHT and ALIGNED are right and differ in
 * the last bits; ALIGNED wants operands and rows at multiples of 16 bytes, and only running it shows whether
 * they are, as it is with the real library's check. BROKEN is on the list as one that does not work. Products
 * of up to EMUL_REFUSED multiplications (100000) are refused. Each takes time on the device's own clock: the
 * fastest 1 ms, the next in this order, round and round, 1.1 and the third one 2. EMUL_FASTEST says which is
 * the first (1: LIGHT).
 */
#ifndef TESTS_EMUL_WAYS_H
#define TESTS_EMUL_WAYS_H

enum emul_way { EMUL_GUESS, EMUL_LIGHT, EMUL_ALIGNED, EMUL_BROKEN, EMUL_WAYS };

/* So far: products by each way, and askings for candidates. */
extern unsigned long emul_products[EMUL_WAYS], emul_askings;

#endif
