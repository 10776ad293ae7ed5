/** An example of every route: what docs/api.md prints, and what test/e2e/api-docs.test.ts runs. */
import type { RouteName } from '@mlx-training/contract'

/** What must be there before an example can do what it says; the test sees to it. */
export type Given =
  | 'nothing'
  | 'no experiment "mine"'
  | '"mine" is completed'
  | '"next" is queued'
  | '"next" is paused'
  | '"old" has ended'
  | 'a data set'
  | 'an evaluation'
  | 'a key'

export interface Example {
  given?: Given
  /** In place of the path's parameters. */
  params?: Record<string, string>
  query?: string
  body?: object
  /** Instead of the call that path, query and body make. */
  curl?: string
  /** A call of the SDK's `client`; $BODY is the body. */
  sdk?: string
  /** Of OpenAI's `openai` for Node. */
  node?: string
  /** Of OpenAI's `client` for Python. */
  python?: string
}

/** Ids as the document shows them; the test puts real ones in their place. */
export const SHOWN = {
  dataset: 'ds_4z1m8q0c7k2x9d3b6t5h',
  file: 'file-4z1m8q0c7k2x9d3b6t5h',
  evaluation: 'ev_4z1m8q0c7k2x9d3b6t5h',
  key: '5f0c3a9d21be',
  tuning: 'ftjob-2c9d04f1a7b35e68',
} as const

const MODEL = 'SmolLM2-135M-Instruct'
const mine = { params: { name: 'mine' }, given: '"mine" is completed' } as const
const next = { params: { name: 'next' }, given: '"next" is queued' } as const
const dataset = { params: { id: SHOWN.dataset }, given: 'a data set' } as const
const evaluation = { params: { id: SHOWN.evaluation }, given: 'an evaluation' } as const
const file = { params: { id: SHOWN.file }, given: 'a data set' } as const
const tuning = { params: { id: SHOWN.tuning }, given: '"mine" is completed' } as const

const training = {
  model_name: MODEL,
  max_steps: 60,
  lora: { use_lora: true },
  dataset: { dataset_path: 'examples/service_alpaca.json', max_seq_length: 256 },
}
const question = 'Which port does the service listen on?'

export const API_EXAMPLES: Record<RouteName, Example> = {
  health: { sdk: 'await client.health()' },
  ready: { sdk: 'await client.ready()' },
  metrics: { sdk: 'await client.metrics()' },

  keysCreate: {
    body: { name: 'nightly runs', scopes: ['train', 'generate'], expires_at: '2099-12-31T00:00:00Z' },
    sdk: 'const { key } = await client.keys.create($BODY)',
  },
  keysList: { sdk: 'const { keys } = await client.keys.list()' },
  keysOwn: { sdk: 'const { may } = await client.keys.own()' },
  keysDelete: { given: 'a key', params: { id: SHOWN.key }, sdk: `await client.keys.delete('${SHOWN.key}')` },

  trainStart: {
    given: 'no experiment "mine"',
    body: { experiment_name: 'mine', ...training },
    sdk: 'await client.train.start($BODY)',
  },
  trainEstimate: { body: training, sdk: 'const { estimated_time, fits } = await client.train.estimate($BODY)' },
  trainStatus: { ...mine, sdk: "const { status, progress } = await client.train.status('mine')" },
  trainRequest: { ...mine, sdk: "await client.train.request('mine')" },
  trainModel: {
    ...mine,
    curl: 'curl -s $URL/train/mine/model -H "X-API-Key: $KEY" -o mine.tar && tar -tf mine.tar',
    sdk: "const tar = await (await client.train.model('mine')).blob()",
  },
  trainList: { sdk: 'const { training_jobs } = await client.train.list()' },
  trainChanges: {
    sdk: `for await (const change of client.train.changes()) {
  if (change.type === 'jobs') console.log(change.training_jobs.length)
  if (change.type === 'job') console.log(change.job.experiment_name, change.job.percentage)
  break // or not: it goes on until its signal aborts
}`,
  },
  trainStop: { ...next, sdk: "await client.train.stop('next')" },
  trainPause: { ...next, sdk: "await client.train.pause('next')" },
  trainResume: { ...next, given: '"next" is paused', sdk: "await client.train.resume('next')" },
  trainPriority: { ...next, body: { priority: 10 }, sdk: "await client.train.prioritize('next', $BODY)" },
  trainClone: {
    ...mine,
    body: { experiment_name: 'mine-slower', overwrite: true, changes: { learning_rate: 2e-5, lora: { lora_r: 32 } } },
    sdk: "await client.train.clone('mine', $BODY)",
  },
  trainDelete: { params: { name: 'old' }, given: '"old" has ended', sdk: "await client.train.delete('old')" },
  trainEvents: {
    ...mine,
    sdk: `for await (const { id, type, data } of client.train.events('mine')) {
  console.log(id, type, data)
}
// Or, to the end of the job, whatever that is:
const { status, reason } = await client.train.wait('mine', { onEvent: ({ type }) => console.log(type) })`,
  },
  trainHistory: { ...mine, query: 'limit=1000', sdk: "await client.train.history('mine', { limit: 1000 })" },

  datasetsValidate: {
    body: { file_path: 'examples/service_sharegpt.json', model_name: MODEL, max_seq_length: 256 },
    sdk: 'const { valid, issues, supervision } = await client.datasets.validate($BODY)',
  },
  datasetsPreview: {
    body: { file_path: 'examples/service_sharegpt.json', model_name: MODEL, samples: [0, 5] },
    sdk: 'const { rows } = await client.datasets.preview($BODY)',
  },
  datasetsUpload: {
    curl: 'curl -s $URL/datasets -H "X-API-Key: $KEY" -F file=@examples/service_sharegpt.json',
    sdk: `import { openAsBlob } from 'node:fs'

const { id } = await client.datasets.upload(await openAsBlob('examples/service_sharegpt.json'), { name: 'service.json' })`,
  },
  datasetsList: { query: 'limit=20', sdk: 'const { datasets, next } = await client.datasets.list({ limit: 20 })' },
  datasetsGet: { ...dataset, sdk: `await client.datasets.get('${SHOWN.dataset}')` },
  datasetsRows: {
    ...dataset,
    query: 'offset=10&limit=2',
    sdk: `const { rows } = await client.datasets.rows('${SHOWN.dataset}', { offset: 10, limit: 2 })`,
  },
  datasetsContent: {
    ...dataset,
    sdk: `const text = await (await client.datasets.content('${SHOWN.dataset}')).text()`,
  },
  datasetsDelete: { ...dataset, sdk: `await client.datasets.delete('${SHOWN.dataset}')` },
  datasetsSplit: {
    ...dataset,
    body: { validation_share: 0.1 },
    sdk: `const { train, validation } = await client.datasets.split('${SHOWN.dataset}', $BODY)`,
  },
  datasetsClean: {
    ...dataset,
    body: { repairs: ['trim', 'drop_duplicates'], dry_run: true },
    sdk: `const { repairs } = await client.datasets.clean('${SHOWN.dataset}', $BODY)`,
  },

  models: { sdk: 'const { models } = await client.models()' },

  generate: {
    given: '"mine" is completed',
    body: { model: 'fine-tuned/mine', prompt: question, temperature: 0, max_tokens: 40 },
    sdk: `const { text } = await client.generate($BODY)
// Or as it comes:
const answer = client.generate.stream({ model: 'fine-tuned/mine', prompt: 'And which key?', max_tokens: 40 })
for await (const piece of answer) console.log(piece.text)
console.log(answer.end?.usage)`,
  },
  compare: {
    given: '"mine" is completed',
    body: { models: [MODEL, 'fine-tuned/mine'], prompt: question, reference: 'It is port 8200.', max_tokens: 40 },
    sdk: 'const { items, summary } = await client.compare($BODY)',
  },
  evaluateStart: {
    given: '"mine" is completed',
    body: {
      models: [MODEL, 'fine-tuned/mine'],
      dataset: { dataset_path: 'examples/service_alpaca_eval.json', max_seq_length: 256 },
      max_samples: 4,
    },
    sdk: `const { id } = await client.evaluations.start($BODY)
const { state, results } = await client.evaluations.wait(id)`,
  },
  evaluateList: { sdk: 'const { evaluations } = await client.evaluations.list()' },
  evaluateGet: { ...evaluation, sdk: `const { results } = await client.evaluations.get('${SHOWN.evaluation}')` },
  evaluateCancel: { ...evaluation, sdk: `await client.evaluations.cancel('${SHOWN.evaluation}')` },
  evaluateDelete: { ...evaluation, sdk: `await client.evaluations.delete('${SHOWN.evaluation}')` },
  providers: { sdk: 'const { current_provider } = await client.providers()' },

  openaiChat: {
    given: '"mine" is completed',
    body: { model: 'fine-tuned/mine', messages: [{ role: 'user', content: question }], temperature: 0, max_tokens: 40 },
    node: `const stream = await openai.chat.completions.create({
  model: 'fine-tuned/mine',
  messages: [{ role: 'user', content: '${question}' }],
  max_tokens: 40,
  stream: true,
})
for await (const { choices } of stream) console.log(choices[0]?.delta.content)`,
    python: `answer = client.chat.completions.create(
    model="fine-tuned/mine",
    messages=[{"role": "user", "content": "${question}"}],
    max_tokens=40,
)
print(answer.choices[0].message.content)`,
  },
  openaiCompletions: {
    given: '"mine" is completed',
    body: { model: 'fine-tuned/mine', prompt: 'The service listens on', max_tokens: 10 },
    node: `const { choices } = await openai.completions.create({
  model: 'fine-tuned/mine',
  prompt: 'The service listens on',
  max_tokens: 10,
})`,
    python: `answer = client.completions.create(model="fine-tuned/mine", prompt="The service listens on", max_tokens=10)
print(answer.choices[0].text)`,
  },
  openaiModels: {
    node: 'const { data } = await openai.models.list()',
    python: 'print([model.id for model in client.models.list()])',
  },
  openaiModel: {
    given: '"mine" is completed',
    params: { model: 'fine-tuned/mine' },
    node: "const model = await openai.models.retrieve('fine-tuned/mine')",
    python: 'print(client.models.retrieve("fine-tuned/mine").owned_by)',
  },
  openaiFileUpload: {
    curl: `curl -s $URL/v1/files -H "Authorization: Bearer $KEY" \\
  -F purpose=fine-tune -F file=@examples/service_sharegpt.json`,
    node: `import { createReadStream } from 'node:fs'

const file = await openai.files.create({
  file: createReadStream('examples/service_sharegpt.json'),
  purpose: 'fine-tune',
})`,
    python: `with open("examples/service_sharegpt.json", "rb") as rows:
    print(client.files.create(file=rows, purpose="fine-tune").id)`,
  },
  openaiFiles: {
    query: 'purpose=fine-tune',
    node: "const { data } = await openai.files.list({ purpose: 'fine-tune' })",
    python: 'print([file.id for file in client.files.list(purpose="fine-tune")])',
  },
  openaiFile: {
    ...file,
    node: `const { filename } = await openai.files.retrieve('${SHOWN.file}')`,
    python: `print(client.files.retrieve("${SHOWN.file}").filename)`,
  },
  openaiFileContent: {
    ...file,
    node: `const text = await (await openai.files.content('${SHOWN.file}')).text()`,
    python: `print(client.files.content("${SHOWN.file}").text[:100])`,
  },
  openaiFileDelete: { ...file, node: `await openai.files.delete('${SHOWN.file}')` },
  fineTuningCreate: {
    given: 'a data set',
    body: {
      model: MODEL,
      training_file: SHOWN.file,
      suffix: 'port',
      method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 1 } } },
      metadata: { team: 'docs' },
    },
    node: 'const job = await openai.fineTuning.jobs.create($BODY)',
    python: `job = client.fine_tuning.jobs.create(model="${MODEL}", training_file="${SHOWN.file}", suffix="port")
print(job.id, job.status)`,
  },
  fineTuningList: {
    query: 'limit=10',
    node: 'const { data } = await openai.fineTuning.jobs.list({ limit: 10 })',
    python: 'print([job.status for job in client.fine_tuning.jobs.list(limit=10).data])',
  },
  fineTuningGet: {
    ...tuning,
    node: `const { status, fine_tuned_model } = await openai.fineTuning.jobs.retrieve('${SHOWN.tuning}')`,
    python: `print(client.fine_tuning.jobs.retrieve("${SHOWN.tuning}").fine_tuned_model)`,
  },
  fineTuningCancel: {
    ...tuning,
    given: '"next" is queued',
    node: `await openai.fineTuning.jobs.cancel('${SHOWN.tuning}')`,
  },
  fineTuningPause: {
    ...tuning,
    given: '"next" is queued',
    node: `await openai.fineTuning.jobs.pause('${SHOWN.tuning}')`,
  },
  fineTuningResume: {
    ...tuning,
    given: '"next" is paused',
    node: `await openai.fineTuning.jobs.resume('${SHOWN.tuning}')`,
  },
  fineTuningEvents: {
    ...tuning,
    node: `const { data } = await openai.fineTuning.jobs.listEvents('${SHOWN.tuning}', { limit: 5 })`,
    python: `for event in client.fine_tuning.jobs.list_events("${SHOWN.tuning}", limit=5).data:
    print(event.message)`,
  },
  fineTuningCheckpoints: {
    ...tuning,
    node: `const { data } = await openai.fineTuning.jobs.checkpoints.list('${SHOWN.tuning}')`,
    python: `for checkpoint in client.fine_tuning.jobs.checkpoints.list("${SHOWN.tuning}"):
    print(checkpoint.fine_tuned_model_checkpoint)`,
  },
}
