/** Output folders as a run leaves them. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { claimFolder } from '../../src/jobs/output-files.ts'

/** What the engine writes for `steps`; `full`: a whole model with its tokenizer instead of an adapter. */
export async function writeRun(
  folder: string,
  job: { id: string; name: string },
  steps: number[],
  full = false,
): Promise<void> {
  await claimFolder(folder, job)
  const result = full
    ? ['model.safetensors', 'config.json', 'training.json', 'tokenizer.json', 'tokenizer_config.json', 'merges.txt']
    : ['adapters.safetensors', 'adapter_config.json', 'chat_template.jinja']
  const write = (path: string, names: string[]) => {
    mkdirSync(path, { recursive: true })
    for (const name of names) writeFileSync(join(path, name), 'x')
  }
  write(folder, [...result, '.lease'])
  for (const step of steps) {
    const checkpoint = join(folder, 'checkpoints', `step-${String(step).padStart(8, '0')}`)
    write(checkpoint, [...result, 'optimizer.safetensors'])
    const files = Object.fromEntries(
      [...result, 'optimizer.safetensors'].map((name) => [name, { bytes: 1, sha256: '' }]),
    )
    writeFileSync(join(checkpoint, 'state.json'), JSON.stringify({ format: 3, files }))
  }
}
