/** What the last good run saw of HQ: lets a later one tell a renewal from an interception, and find HQ without DNS. */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';

const memorySchema = z.object({
  host: z.string().max(300),
  port: z.int(),
  address: z.string().max(100),
  /** Issuer and public key (SHA-256) of the certificate; null over plain HTTP. */
  issuer: z.string().max(2_000).nullable(),
  key: z.string().max(100).nullable(),
  at: z.string().max(40),
});
export type Memory = z.infer<typeof memorySchema>;

const NAME = 'last-good.json';

export async function readMemory(stateDir: string): Promise<Memory | undefined> {
  try {
    return memorySchema.parse(JSON.parse(await readFile(join(stateDir, NAME), 'utf8')));
  } catch {
    // None yet, or damaged: it only sharpens messages, so its absence is no fault.
    return undefined;
  }
}

export async function saveMemory(stateDir: string, memory: Memory): Promise<void> {
  const path = join(stateDir, NAME);
  try {
    await writeFile(`${path}.new`, `${JSON.stringify(memory)}\n`, { mode: 0o600 });
    await rename(`${path}.new`, path);
  } catch {
    // A diagnosis by a user who may not write there is as good without it.
  }
}
