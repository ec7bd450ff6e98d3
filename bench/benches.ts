/** The targets of performance and what measures each: the names that `npm run bench` takes. */
import { p1 } from './p1.ts';
import type { Bench } from './support/report.ts';

export const BENCHES: Readonly<Record<string, Bench>> = { p1 };
