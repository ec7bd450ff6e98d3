/** The targets of performance and what measures each: the names that `npm run bench` takes. */
import { p1 } from './p1.ts';
import { p2 } from './p2.ts';
import { p9 } from './p9.ts';
import type { Bench } from './support/report.ts';

export const BENCHES: Readonly<Record<string, Bench>> = { p1, p2, p9 };
