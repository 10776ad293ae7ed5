// Answers while a training job runs on the same machine, when training gives way to them and when it does not.
import { join } from 'node:path'
import { BUNDLED_MODEL, ROOT, Stop } from '../../scripts/lib.mjs'
import { round } from './machine.mjs'
import { several } from './scenarios.mjs'
import { askOurs, KEY, startOurs } from './servers.mjs'

const STREAMS = 4
const ALONE_SECONDS = 12
const ENDED = ['stopped', 'failed', 'completed']
const PAUSE_SECONDS = 2 // between one batch of answers and the next, as people leave some

/** → {alone, giving_way, not_giving_way}: tokens/s and first token of answers, rows/s of training, seconds ceded. */
export async function besideTraining(tokens, batches) {
  const found = {}
  for (const [name, percent] of [
    ['giving_way', 50],
    ['not_giving_way', 0],
  ]) {
    const { url, stop } = await startOurs({ MLX_TRAINING_GENERATION_YIELD_PERCENT: String(percent) })
    try {
      const ask = askOurs(url)
      await several(ask, [null], 4) // starts the process and loads the model
      found.without_training ??= await several(ask, Array(STREAMS).fill(null), tokens)
      const job = await startJob(url)
      const alone = await rate(job, () => sleep(ALONE_SECONDS))
      const answers = []
      const during = await rate(job, async () => {
        for (let i = 0; i < batches; i++) {
          answers.push(await several(ask, Array(STREAMS).fill(null), tokens))
          await sleep(PAUSE_SECONDS)
        }
      })
      await job.stop()
      const mean = (figure) => answers.reduce((sum, answer) => sum + answer[figure], 0) / answers.length
      found[name] = {
        tokens_per_second: round(mean('tokens_per_second'), 1),
        first_token_seconds: round(mean('first_token_seconds'), 3),
        training_rows_per_second: { alone: round(alone.rows, 3), beside: round(during.rows, 3) },
        ceded_share: round(during.ceded, 3),
      }
      console.log(`  beside training, ${name}: ${JSON.stringify(found[name])}`)
    } finally {
      await stop()
    }
  }
  return found
}

async function rate(job, work) {
  const before = await job.status()
  const start = performance.now()
  await work()
  const seconds = (performance.now() - start) / 1000
  const after = await job.status()
  const rows = ({ dataset_details }) => dataset_details.processed_samples
  const ceded = ({ metrics }) => metrics.ceded_seconds
  return { rows: (rows(after) - rows(before)) / seconds, ceded: (ceded(after) - ceded(before)) / seconds }
}

async function startJob(url) {
  const headers = { 'x-api-key': KEY, 'content-type': 'application/json' }
  const body = {
    experiment_name: 'bench-training',
    overwrite: true,
    model_name: BUNDLED_MODEL,
    dataset: { dataset_path: join(ROOT, 'examples', 'service_alpaca.json'), batch_size: 2, max_seq_length: 256 },
    lora: { use_lora: true, lora_r: 8, lora_alpha: 16 },
    max_steps: 100_000,
    save_steps: 100_000,
  }
  const status = async () => await (await fetch(`${url}/train/bench-training/status`, { headers })).json()
  const stop = async () => {
    await fetch(`${url}/train/bench-training/stop`, { method: 'POST', headers })
    while (!ENDED.includes((await status()).status)) await sleep(0.3)
  }
  const left = (await status()).status // of a run that was broken off; undefined where there is none
  if (left !== undefined && !ENDED.includes(left)) await stop()
  const answer = await fetch(`${url}/train/start`, { method: 'POST', headers, body: JSON.stringify(body) })
  if (!answer.ok) throw new Stop(`The training beside generation did not start: ${await answer.text()}`)
  for (;;) {
    const now = await status()
    if (now.progress.current_step > 1) break
    if (now.status === 'failed') throw new Stop(`The training beside generation failed: ${now.reason}`)
    await sleep(0.3)
  }
  return { status, stop }
}

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000))
