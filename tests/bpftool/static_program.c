// SPDX-License-Identifier: Apache-2.0
// A program that no preloaded library reaches.

int main(void) { return 0; }
