/** PROTOCOL.md and LINK.md: their rules are numbered without gaps, and the tests that they name are there. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');

for (const { page, letter } of [
  { page: 'src/protocol/PROTOCOL.md', letter: 'P' },
  { page: 'src/store/link/LINK.md', letter: 'L' },
]) {
  describe(page, () => {
    const text = readFileSync(join(ROOT, page), 'utf8');

    it('numbers its rules from 1 without a gap', () => {
      const numbers = [...text.matchAll(new RegExp(`^- \\*\\*${letter}-(\\d+)\\*\\*`, 'gm'))].map(([, n]) =>
        Number(n),
      );
      assert.ok(numbers.length > 5);
      assert.deepEqual(
        numbers,
        numbers.map((_, index) => index + 1),
      );
    });

    it('names tests that exist, word for word', () => {
      const named = [...text.matchAll(/\*\((test\/[^:)]+): (.+)\)\*$/gm)];
      assert.ok(named.length > 5);
      for (const [, file = '', title = ''] of named) {
        const source = readFileSync(join(ROOT, file), 'utf8');
        assert.ok(source.includes(title), `${file} has no test "${title}"`);
      }
    });
  });
}
