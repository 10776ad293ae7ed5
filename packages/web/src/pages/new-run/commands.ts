/** The form as the same call by curl, the SDK and the command line, to copy. */
import type { StartInput } from '@mlx-training/sdk'
import type { CodeSample } from '../../components/code-tabs.tsx'

export function commandsOf(request: StartInput, url: string): CodeSample[] {
  return [
    { label: 'curl', code: curlOf(request, url) },
    { label: 'SDK', code: sdkOf(request, url) },
    { label: 'CLI', code: cliOf(request) },
  ]
}

/** For a POSIX shell. */
const quoted = (text: string) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`)

const curlOf = (request: StartInput, url: string) =>
  `curl ${quoted(`${url}/train/start`)} \\
  -H "X-API-Key: $MLX_TRAINING_API_KEY" \\
  -H 'Content-Type: application/json' \\
  -d ${quoted(JSON.stringify(request, null, 2))}`

const sdkOf = (request: StartInput, url: string) =>
  `import { MlxTraining } from '@mlx-training/sdk'

const client = new MlxTraining({
  baseURL: '${url}',
  apiKey: process.env.MLX_TRAINING_API_KEY,
})
await client.train.start(${JSON.stringify(request, null, 2).replaceAll(/"([A-Za-z_]\w*)":/g, '$1:')})`

const FLAGS: Record<string, string> = {
  experiment_name: '--name',
  model_name: '--model',
  'dataset.dataset_path': '--data',
  'dataset.validation_path': '--validation',
  epochs: '--epochs',
  max_steps: '--max-steps',
  learning_rate: '--lr',
  'dataset.batch_size': '--batch-size',
  'dataset.max_seq_length': '--max-seq-length',
  'lora.lora_r': '--rank',
  'lora.lora_alpha': '--alpha',
  resume_from: '--resume-from',
}

function cliOf(request: StartInput): string {
  const { use_lora, use_qlora, use_dora, ...lora } = request.lora ?? {}
  const method = use_qlora ? 'qlora' : use_lora ? (use_dora ? 'dora' : 'lora') : 'full'
  const flags = [...leaves({ ...request, lora })].map(([path, value]) => {
    if (path === 'overwrite') return '--overwrite'
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    return FLAGS[path] ? `${FLAGS[path]} ${quoted(text)}` : `--set ${quoted(`${path}=${text}`)}`
  })
  return ['mlx-training train', ...flags, `--method ${method}`].join(' \\\n  ')
}

function* leaves(tree: object, prefix = ''): Generator<[path: string, value: unknown]> {
  for (const [key, value] of Object.entries(tree))
    if (value !== null && typeof value === 'object' && !Array.isArray(value)) yield* leaves(value, `${prefix}${key}.`)
    else yield [prefix + key, value]
}
