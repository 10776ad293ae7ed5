import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CompareResponse, Evaluation, EvaluationStarted } from '@mlx-training/contract'
import { expect, test } from 'vitest'
import { enginesOf } from '../../packages/server/src/engine/orphans.ts'
import { MODEL, makeTinyModel, ROOT, Server, workFolder } from './support.ts'

const HELD_OUT = join(ROOT, 'examples', 'service_alpaca_eval.json')

test('models over held-out rows, on real engines: the losses of training, answers, and a server that is killed', async () => {
  const folder = workFolder()
  makeTinyModel(join(folder.path, 'tiny'))
  const rows = JSON.parse(readFileSync(HELD_OUT, 'utf8'))
  for (const [name, part] of Object.entries({ train: rows.slice(4, 20), held: rows.slice(0, 4) }))
    writeFileSync(join(folder.path, `${name}.json`), JSON.stringify(part))
  let server = await Server.start(folder.path)
  const evaluation = async (id: string) => (await server.request<Evaluation>('GET', `/evaluate/${id}`)).body
  const evaluate = async (body: object) => {
    const { status, body: answer } = await server.request<EvaluationStarted>('POST', '/evaluate', body)
    expect(status, JSON.stringify(answer)).toBe(202)
    return answer.id
  }
  const until = async (id: string, done: (found: Evaluation) => boolean) => {
    for (;;) {
      const found = await evaluation(id)
      if (done(found)) return found
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  const dataset = { dataset_path: 'held.json', max_seq_length: 128 }
  try {
    await server.request('POST', '/train/start', {
      experiment_name: 'mine',
      model_name: './tiny',
      max_steps: 6,
      learning_rate: 1e-2,
      lora: { use_lora: true, lora_r: 4, lora_dropout: 0 },
      dataset: { dataset_path: 'train.json', validation_path: 'held.json', batch_size: 4, max_seq_length: 128 },
      load_best_model_at_end: false,
    })
    await server.until('mine', ({ status }) => status === 'completed')
    const evals = (await server.events('mine')).filter(({ type }) => type === 'eval')
    const reported = evals.map(({ data }) => (data as { loss: number }).loss)

    const models = ['./tiny', 'fine-tuned/mine', MODEL]
    const request = { models: models.slice(0, 2), dataset, generate: true, generate_samples: 2, max_tokens: 8 }
    const found = await until(await evaluate(request), ({ completed_at }) => completed_at !== null)
    expect(found.state, JSON.stringify(found)).toBe('completed')
    const [base, tuned] = found.results
    const close = (loss: number | undefined) => expect.closeTo(loss ?? Number.NaN, 6)
    expect([base?.loss?.value, tuned?.loss?.value]).toEqual([close(reported[0]), close(reported.at(-1))])
    expect(tuned?.difference).toMatchObject({
      rows: 4,
      loss: { value: close((reported.at(-1) ?? 0) - (reported[0] ?? 0)) },
    })
    for (const { generated } of found.results) expect(generated).toMatchObject({ rows: 2, failed: 0 })
    expect(found.samples.length).toBeGreaterThan(0)

    const { body } = await server.request<CompareResponse>('POST', '/compare', {
      models: [...models, 'fine-tuned/none'],
      prompt: 'Which port?',
      reference: 'Port 8200.',
      max_tokens: 6,
    })
    expect(body.summary.map(({ answered }) => answered)).toEqual([1, 1, 1, 0])
    expect(body.items[0]?.answers[2]).toMatchObject({ error: null, scores: expect.any(Object) })

    const killed = await evaluate({ ...request, models: [MODEL], dataset: { ...dataset, dataset_path: 'train.json' } })
    await until(killed, ({ progress }) => progress?.stage === 'loading_model' || progress?.stage === 'evaluating')
    const waiting = await evaluate({ models: ['./tiny'], dataset })
    await server.kill('SIGKILL')
    server = await Server.start(folder.path)
    expect(await evaluation(killed)).toMatchObject({ state: 'interrupted', completed_at: expect.any(String) })
    expect(await until(waiting, ({ completed_at }) => completed_at !== null)).toMatchObject({ state: 'completed' })
    expect((await enginesOf(join(folder.path, 'home'))).filter(({ orphaned }) => orphaned)).toEqual([])
  } finally {
    await server.stop()
    folder.remove()
  }
}, 600_000)
