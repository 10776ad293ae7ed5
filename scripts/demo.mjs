// npm run demo: from a clean clone to a fine-tuned model, over the same HTTP API that everyone uses.
//   npm run demo -- [--exit] [--port N] [--steps N]
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { BUNDLED_MODEL, fail, ROOT, Stop } from './lib.mjs'
import { setup } from './setup.mjs'

const EXPERIMENT = 'demo'
const DATA = join(ROOT, 'examples', 'service_alpaca.json')
const HELD_OUT = join(ROOT, 'examples', 'service_alpaca_eval.json')
const QUESTIONS = [
  'Which port does the mlx-distributed-training service listen on?',
  'Which endpoint starts a training job?',
  'What is the default LoRA rank?',
]

// Two thirds of two epochs' steps answer the three questions right; all of them take a minute and a half more on two cores.
const RECIPE = {
  epochs: 2,
  max_steps: 140,
  learning_rate: 2e-3,
  lora: { use_lora: true, lora_r: 16, lora_alpha: 32, lora_dropout: 0, lora_target_modules: ['all-linear'] },
  dataset: { dataset_path: DATA, validation_path: HELD_OUT, batch_size: 4, max_seq_length: 256 },
}

const STAGES = {
  loading_model: 'loading the model',
  tokenizing: 'tokenising',
  evaluating: 'measuring the held-out loss',
}

const paint = (code) => (text) => (process.stdout.isTTY && !process.env.NO_COLOR ? `\x1b[${code}m${text}\x1b[0m` : text)
const bold = paint('1')
const dim = paint('2')
const green = paint('32')

const options = (() => {
  try {
    return parseArgs({
      options: {
        exit: { type: 'boolean' },
        port: { type: 'string' },
        steps: { type: 'string' },
      },
    }).values
  } catch (error) {
    return fail(new Stop(`${error.message}. Options: --exit, --port N, --steps N`))
  }
})()

await setup().catch(fail)
const { loadConfig, startServer, ConfigError } = await import('../packages/server/dist/index.js')
const server = await start()
const api = client(server)
try {
  await demo()
} catch (error) {
  await server.close()
  fail(error)
}
if (options.exit) {
  await server.close()
  process.exit(0)
}
console.log(
  `\nThe server stays up at ${bold(server.url)} (dashboard: ${server.url}/, API: ${server.url}/docs). Ctrl-C ends it.`,
)

async function start() {
  try {
    const config = loadConfig({
      ...process.env,
      ...(options.port && { PORT: options.port }),
      LOG_LEVEL: process.env.LOG_LEVEL ?? 'warn',
    })
    return await startServer(config, { signals: true })
  } catch (error) {
    return fail(error instanceof ConfigError ? new Stop(error.message) : error)
  }
}

async function demo() {
  const engine = await server.engine
  if (engine.state !== 'ready') throw new Stop(`The engine does not work: ${engine.reason}`)
  console.log(`\n${bold('Engine')}   ${engine.device}, ${engine.backend}, ${engine.dtype}`)

  const report = await api('POST', '/datasets/validate', { file_path: DATA })
  if (!report.valid) throw new Stop(`The bundled data set is not valid: ${report.errors[0]}`)
  console.log(`${bold('Data')}     ${report.total_samples} ${report.format} rows, ${report.warnings.length} warnings`)

  await endEarlierDemo()
  const before = await answers(undefined)
  const job = await api('POST', '/train/start', {
    experiment_name: EXPERIMENT,
    model_name: BUNDLED_MODEL,
    ...RECIPE,
    ...(options.steps && { max_steps: Number(options.steps) }),
    overwrite: true,
  })
  console.log(
    `${bold('Training')} ${job.experiment_name} by LoRA on ${BUNDLED_MODEL}, estimated ${job.estimated_time}\n`,
  )
  if (job.queue_position > 0 || (await api('GET', '/health')).active_jobs > 1)
    console.log(
      'Another job is at work; this one begins after it. (GET /train lists them, POST /train/NAME/stop ends one.)',
    )
  await follow(job.experiment_name)

  const after = await answers(`fine-tuned/${EXPERIMENT}`)
  for (const [index, question] of QUESTIONS.entries()) {
    console.log(`\n${bold(`? ${question}`)}`)
    console.log(`  ${dim('before')} ${before[index]}`)
    console.log(`  ${green('after ')} ${after[index]}`)
  }
}

/** A demo that was broken off would go on with its job; this one begins anew. */
async function endEarlierDemo() {
  const ended = ['completed', 'stopped', 'failed']
  const earlier = async () =>
    (await api('GET', '/train')).training_jobs.find((job) => job.experiment_name === EXPERIMENT)
  let job = await earlier()
  if (!job || ended.includes(job.status)) return
  console.log('Ending the earlier demo that was broken off …')
  await api('POST', `/train/${EXPERIMENT}/stop`)
  while (!ended.includes(job.status)) {
    await new Promise((resume) => setTimeout(resume, 200))
    job = await earlier()
  }
}

async function answers(model) {
  const texts = []
  for (const prompt of QUESTIONS) {
    const { text } = await api('POST', '/generate', { prompt, model, temperature: 0, max_tokens: 60 })
    texts.push(text.trim().replaceAll('\n', ' '))
  }
  return texts
}

/** Reads the job's event stream to its end and draws each step. */
async function follow(name) {
  const bar = progressBar()
  const response = await fetch(`${server.url}/train/${name}/events`, {
    headers: { 'X-API-Key': server.adminKey },
  })
  let total = 0
  let buffered = ''
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    buffered += chunk
    const messages = buffered.split('\n\n')
    buffered = messages.pop()
    for (const message of messages) {
      const line = message.split('\n').find((text) => text.startsWith('data:'))
      if (!line) continue
      const { type, data } = JSON.parse(line.slice(5))
      if (type === 'stage') bar.wait(STAGES[data.stage] ?? data.stage)
      if (type === 'prepared') {
        total = data.total_steps
        bar.note(`${data.samples} rows, ${count(data.trained_tokens)} trained tokens an epoch`)
        bar.note(`${count(data.trainable_params)} of ${count(data.total_params)} parameters train`)
      }
      if (type === 'step') bar.draw(data, total)
      if (type === 'eval') bar.note(`held-out loss after step ${data.step}: ${data.loss.toFixed(3)}`)
      if (type === 'warning') bar.note(`warning: ${data.message}`)
      if (type === 'end') {
        bar.end()
        if (data.state !== 'completed') throw new Stop(`The job ${data.state}: ${data.reason ?? 'no reason was given'}`)
        return
      }
    }
  }
  throw new Stop('The event stream broke off before the job ended.')
}

/** One line that is drawn over again on a terminal; elsewhere a line for each tenth of the way. */
function progressBar() {
  const live = process.stdout.isTTY
  let last = null
  let tenth = -1
  const show = (text) => live && process.stdout.write(`\r\x1b[2K${text}`)
  return {
    draw(step, total) {
      const part = total ? step.step / total : 0
      const columns = process.stdout.columns || 80
      const width = columns < 96 ? 10 : 24
      const full = Math.round(part * width)
      const left = step.seconds_remaining === null ? '' : `  ${duration(step.seconds_remaining)} left`
      const text =
        `${'█'.repeat(full)}${'░'.repeat(width - full)} ${String(Math.round(part * 100)).padStart(3)}%  step ${step.step}/${total}  ` +
        `loss ${step.loss === null ? '–' : step.loss.toFixed(3)}  ${Math.round(step.tokens_per_second)} tokens/s${left}`
      last = text.slice(0, columns - 1)
      show(last)
      if (!live && Math.floor(part * 10) > tenth) console.log(text)
      tenth = Math.floor(part * 10)
    },
    /** What it is busy with between two steps. */
    wait: (text) => show(dim(`${text} …`)),
    note(text) {
      show('')
      console.log(dim(text))
      if (last) show(last)
    },
    end() {
      if (!live) return
      show(last ?? '')
      process.stdout.write('\n')
    },
  }
}

function count(number) {
  return number.toLocaleString('en')
}

function duration(seconds) {
  const whole = Math.round(seconds)
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`
}

function client({ url, adminKey }) {
  return async (method, path, body) => {
    const response = await fetch(url + path, {
      method,
      headers: {
        'X-API-Key': adminKey,
        ...(body && { 'Content-Type': 'application/json' }),
      },
      body: body && JSON.stringify(body),
    })
    const answer = await response.json()
    if (!response.ok) throw new Stop(answer.detail)
    return answer
  }
}
