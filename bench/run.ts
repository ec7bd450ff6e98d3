/**
 * Runs a bench and prints what it found.
 *
 *   npm run bench -- p1 [p2 …] [--short] [--sales N] [--products N] [--stores N] [--json FILE]
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { endProcesses } from '../test/support/process.ts';
import { BENCHES } from './benches.ts';
import { textOf, type Report } from './support/report.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    short: { type: 'boolean', default: false },
    json: { type: 'string' },
    sales: { type: 'string' },
    products: { type: 'string' },
    stores: { type: 'string' },
  },
});
const unknown = positionals.filter((name) => BENCHES[name] === undefined);
if (positionals.length === 0 || unknown.length > 0) {
  console.error(`npm run bench -- NAME… [--short] [--sales N] [--products N] [--stores N] [--json FILE]\n`);
  for (const [name, { title }] of Object.entries(BENCHES)) console.error(`  ${name.padEnd(4)} ${title}`);
  process.exitCode = 64;
} else {
  const reports: Report[] = [];
  try {
    for (const name of positionals) {
      const report = await BENCHES[name]?.run({
        short: values.short,
        ...(values.sales === undefined ? {} : { sales: Number(values.sales) }),
        ...(values.products === undefined ? {} : { products: Number(values.products) }),
        ...(values.stores === undefined ? {} : { stores: Number(values.stores) }),
        say: (line) => {
          console.error(`${name}: ${line}`);
        },
      });
      if (report === undefined) continue;
      reports.push(report);
      console.log(`${textOf(report)}\n`);
    }
  } finally {
    await endProcesses();
  }
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(reports, undefined, 2)}\n`);
}
