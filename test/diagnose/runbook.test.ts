/** Codes, runbook pages and hints belong together: none without the others. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseRunbook } from '../../src/cli/runbook.ts';
import { ERRORS } from '../../src/core/errors.ts';
import { CHECKS } from '../../src/diagnose/checks.ts';
import { LAYERS } from '../../src/diagnose/check.ts';

const pages = parseRunbook(readFileSync(join(import.meta.dirname, '../../docs/runbook.md'), 'utf8'));

/** What a hint may begin with: something that a person does. */
const VERBS = new Set(
  (
    'activate add allow ask check choose copy correct create delete end enrol finish free get give install issue keep ' +
    'let list log look make plug point put raise read remove renew report restart run see set start stop switch ' +
    'synchronise take update upgrade use wait write'
  ).split(' '),
);

describe('the runbook', () => {
  it('has exactly one page for every code', () => {
    assert.deepEqual([...pages.keys()].sort(), Object.keys(ERRORS).sort());
  });

  it('says on every page what it means, who fixes it, how, what goes on meanwhile and how possync knows', () => {
    const thin = [...pages.values()].filter(
      ({ meaning, who, steps, meanwhile, how }) =>
        steps.length === 0 || [meaning, who, meanwhile, how].some((text) => text.length < 5),
    );
    assert.deepEqual(
      thin.map(({ code }) => code),
      [],
    );
  });

  it('names only checks that exist', () => {
    const known = new Set<string>([...LAYERS, ...CHECKS.map(({ id }) => id)]);
    const wrong = [...pages.values()].flatMap(({ code, steps, how }) =>
      [...steps, how].flatMap((text) =>
        [...text.matchAll(/`possync diagnose ([^`-]+)`/g)]
          .flatMap(([, words = '']) => words.trim().split(' '))
          .filter((word) => !known.has(word))
          .map((word) => `${code}: ${word}`),
      ),
    );
    assert.deepEqual(wrong, []);
  });

  it('is led by hints that begin with a verb', () => {
    const wrong = Object.entries(ERRORS)
      .map(([code, { hint }]) => ({ code, word: /^[a-z]+/i.exec(hint)?.[0] ?? '' }))
      .filter(({ word }) => !VERBS.has(word));
    assert.deepEqual(wrong, []);
  });
});

describe('the list of checks', () => {
  it('has stable ids, each in its layer or about the clock, none twice', () => {
    const ids = CHECKS.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
    const odd = CHECKS.filter(({ id, layer }) => !id.startsWith(`${layer}.`)).map(({ id }) => id);
    assert.deepEqual(odd, ['sync.cursor', 'clock.skew']);
  });

  it('depends only on checks that exist, and waits for nothing in a circle', () => {
    const place = new Map(CHECKS.map(({ id }, index) => [id, index]));
    for (const { id, dependsOn = [], after = [] } of CHECKS) {
      for (const other of [...dependsOn, ...after]) assert.ok(place.has(other), `${id} waits for ${other}`);
    }
    const done = new Set<string>();
    const visit = (id: string, way: readonly string[]): void => {
      assert.ok(!way.includes(id), `a circle: ${[...way, id].join(' → ')}`);
      if (done.has(id)) return;
      const check = CHECKS[place.get(id) ?? -1];
      for (const other of [...(check?.dependsOn ?? []), ...(check?.after ?? [])]) visit(other, [...way, id]);
      done.add(id);
    };
    for (const { id } of CHECKS) visit(id, []);
  });

  it('comes in path order', () => {
    const layers = CHECKS.map(({ layer }) => LAYERS.indexOf(layer));
    assert.deepEqual(
      layers,
      [...layers].sort((a, b) => a - b),
    );
  });
});
