/** Each bench in its short form: that it runs to its end and measures what it says, whatever the times are. */
import assert from 'node:assert/strict';
import { BENCHES } from '../../bench/benches.ts';
import { textOf } from '../../bench/support/report.ts';

describe('benches', () => {
  for (const [name, bench] of Object.entries(BENCHES)) {
    it(`${name}: ${bench.title}`, async function () {
      this.timeout(600_000);
      const report = await bench.run({ short: true, say: () => undefined });
      assert.equal(report.bench, name);
      assert.ok(report.ways.length > 0);
      for (const { name: way, runs } of report.ways) {
        assert.ok(runs.length > 0, way);
        const values = runs.flatMap((run) => Object.entries(run));
        assert.ok(values.length > 0, way);
        for (const [measure, value] of values)
          assert.ok(Number.isFinite(value), `${way}: ${measure} is ${value}`);
      }
      const text = textOf(report);
      for (const result of Object.keys(report.results)) assert.ok(text.includes(result));
    });
  }
});
