#!/usr/bin/env node
// Places in the sources, not in the bundle, where a stack is shown: on request, and in the log of what runs for long.
// Reading the maps costs a few milliseconds that no other command should wait for.
const words = process.argv.slice(2);
if (words.includes('--verbose') || words.includes('daemon') || words.includes('serve'))
  process.setSourceMapsEnabled(true);
await import('../dist/src/cli/main.js');
