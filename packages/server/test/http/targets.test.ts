import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readModelFolder } from '../../src/models/folder.ts'
import { readWeights } from '../../src/models/weights.ts'
import { alpacaRows, createService, type Service } from './service.ts'

let service: Service
let count = 0
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(5)))
  const folder = (name: string) => join(service.folder, name)
  await putModel(folder('llama'), llama(3), { format: 'mlx' })
  await putModel(folder('llama-pt'), llama(3), { format: 'pt' })
  await putModel(folder('mixtral-pt'), [...llama(2), 'model.layers.0.block_sparse_moe.experts.0.w1'], { format: 'pt' })
  await putModel(folder('mixture'), ['model.layers.0.mlp.switch_mlp.gate_proj', 'model.layers.0.conv'], {
    format: 'mlx',
    shape: [2, 2, 2],
  })
})
afterAll(() => service.close())

const llama = (layers: number): string[] => [
  'model.embed_tokens',
  'lm_head',
  ...Array.from({ length: layers }, (_, i) =>
    ['self_attn.q_proj', 'self_attn.v_proj', 'mlp.down_proj'].map((name) => `model.layers.${i}.${name}`),
  ).flat(),
]

/** A folder of that layout, all of its weights of this shape, beside a vector in each of its layers. */
async function putModel(
  folder: string,
  modules: string[],
  { format, shape = [2, 2] }: { format: string; shape?: number[] },
): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'config.json'), '{"model_type":"llama"}')
  await writeFile(join(folder, 'tokenizer.json'), '{}')
  const bytes = shape.reduce((product, size) => product * size, 4)
  const tensors = Object.fromEntries(
    modules.map((name, i) => [`${name}.weight`, { dtype: 'F32', shape, data_offsets: [i * bytes, (i + 1) * bytes] }]),
  )
  const end = modules.length * bytes
  const norm = { 'model.layers.0.norm.weight': { dtype: 'F32', shape: [1], data_offsets: [end, end + 4] } }
  const header = Buffer.from(JSON.stringify({ __metadata__: { format }, ...tensors, ...norm }))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  await writeFile(join(folder, 'model.safetensors'), Buffer.concat([length, header, Buffer.alloc(end + 4)]))
}

const start = (model: string, lora: object) =>
  service.call('POST', '/train/start', {
    experiment_name: `experiment-${++count}`,
    model_name: `./${model}`,
    lora: { use_lora: true, ...lora },
    dataset: { dataset_path: 'data.json' },
  })

test.each(['llama', 'llama-pt'])('a target that %s has not: what there is, and the nearest', async (model) => {
  const { status, body } = await start(model, { lora_target_modules: ['q_proj', 'v_porj', 'c_attn'] })
  expect(status).toBe(400)
  expect(body.detail).toBe(
    'lora.lora_target_modules has "v_porj" (did you mean v_proj?), "c_attn", but no linear layer of ' +
      `./${model} is named so; there are down_proj, q_proj, v_proj, or ["all-linear"] for every one of them`,
  )
  expect(body.errors).toEqual([{ field: 'lora.lora_target_modules', message: expect.stringMatching(/^has "v_porj"/) }])
  expect(await service.jobs.get(`experiment-${count}`)).toBeNull()
})

test.each([
  ['llama', ['q_proj', 'self_attn.v_proj', 'lm_head']],
  ['llama', ['all-linear']],
  ['mixture', ['gate_proj']],
  ['mixtral-pt', ['gate_proj']],
])('%s takes %j', async (model, targets) => {
  const { status, body } = await start(model, { lora_target_modules: targets })
  expect(status, JSON.stringify(body)).toBe(200)
})

test('parts of names, norms and convolutions are no targets', async () => {
  for (const target of ['proj', 'norm', 'attn.q_proj'])
    expect((await start('llama', { lora_target_modules: [target] })).status).toBe(400)
  expect((await start('mixture', { lora_target_modules: ['conv'] })).status).toBe(400)
})

test('the defaults are held to the model as well, but not without LoRA', async () => {
  expect((await start('llama', {})).body.detail).toContain('has "k_proj"')
  expect((await start('llama', { use_lora: false })).status).toBe(200)
  expect((await start('llama', { use_lora: false, use_qlora: true })).status).toBe(400)
})

test('more layers than there are', async () => {
  const targets = { lora_target_modules: ['q_proj'] }
  const { status, body } = await start('llama', { ...targets, lora_layers: 4 })
  expect(status).toBe(400)
  expect(body.errors).toEqual([{ field: 'lora.lora_layers', message: 'is 4, but ./llama has 3 layers' }])
  expect((await start('mixtral-pt', { ...targets, lora_layers: 4 })).status).toBe(400)
  expect((await start('llama', { ...targets, lora_layers: 3 })).status).toBe(200)
})

test('a file that is not as long as its header says is told as damaged', async () => {
  const folder = join(service.folder, 'cut')
  await putModel(folder, ['model.layers.0.q_proj'], { format: 'mlx' })
  expect(Object.keys((await readWeights(folder)).tensors)).toEqual([
    'model.layers.0.q_proj.weight',
    'model.layers.0.norm.weight',
  ])
  await writeFile(join(folder, 'model.safetensors'), Buffer.alloc(20))
  await expect(readModelFolder(folder)).rejects.toThrow('damaged or incomplete model.safetensors')
  await expect(readWeights(folder)).rejects.toThrow('model.safetensors is no safetensors file')
})
