/** CPU profiles of the processes of a bench: `BENCH_PROFILE=DIR npm run bench -- p1` leaves one file for each there. */

/** Environment for a process of possync; nothing where no profile is wanted. NODE_OPTIONS does not take --cpu-prof. */
export function profileEnv(): Readonly<Record<string, string>> {
  const dir = process.env.BENCH_PROFILE;
  if (dir === undefined) return {};
  return { BENCH_PROFILE: dir, NODE_OPTIONS: `--import=${new URL('profile-hook.js', import.meta.url).href}` };
}
