import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { alpacaRows, createService, putModel, type Service } from './service.ts'

// Models whose files have holes for weights: no disk has room for what training them would write.
let service: Service
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(5)))
  await putHuge(join(service.folder, 'huge'))
})
afterAll(() => service.close())

const SHAPES = { 'self_attn.q_proj': [2 ** 20, 2 ** 20], 'mlp.up_proj': [2 ** 11, 2 ** 20, 2 ** 9] }

/** 2 Ti parameters, half of them in 2048 stacked experts. */
async function putHuge(folder: string): Promise<void> {
  await mkdir(folder)
  await writeFile(join(folder, 'config.json'), '{"model_type": "llama"}')
  await writeFile(join(folder, 'tokenizer.json'), '{}')
  const bytes = 2 ** 41
  const tensors = Object.fromEntries(
    Object.entries(SHAPES).map(([name, shape], index) => [
      `model.layers.0.${name}.weight`,
      { dtype: 'BF16', shape, data_offsets: [index * bytes, (index + 1) * bytes] },
    ]),
  )
  const header = Buffer.from(JSON.stringify(tensors))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  const file = await open(join(folder, 'model.safetensors'), 'w')
  await file.write(Buffer.concat([length, header]))
  await file.truncate(8 + header.length + 2 * bytes)
  await file.close()
}

const start = (experiment_name: string, change: object) =>
  service.call('POST', '/train/start', {
    experiment_name,
    model_name: './huge',
    dataset: { dataset_path: 'data.json' },
    ...change,
  })

test('a run whose checkpoints the disk has no room for: 507 with figures, and nothing is queued', async () => {
  const { status, body } = await start('full', {})
  expect(status, JSON.stringify(body)).toBe(507)
  expect(body.error_type).toBe('InsufficientStorageError')
  expect(body.detail).toMatch(
    /^The disk of .*outputs\/full has [\d.]+ (GiB|TiB|MiB) free, but this run needs 96.0 TiB there \(96.0 TiB for checkpoints and 256 MiB in reserve\): free some space, or give an output_dir elsewhere$/,
  )
  expect(await service.jobs.get('full')).toBeNull()
})

test('of LoRA the adapter counts, not the base', async () => {
  const lora = (lora_r: number, module: string) => ({
    lora: { use_lora: true, lora_r, lora_target_modules: [module] },
  })
  expect((await start('small', lora(1, 'q_proj'))).status).toBe(200)
  // Four checkpoints of 2048 experts · 1024 · (2²⁰ + 2⁹) values, each with two of AdamW, in float32.
  const { status, body } = await start('large', lora(1024, 'up_proj'))
  expect(status).toBe(507)
  expect(body.detail).toContain('(96.0 TiB for checkpoints')
})
