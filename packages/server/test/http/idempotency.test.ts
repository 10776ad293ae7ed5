import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { ADMIN, alpacaRows, createService, putModel, type Service } from './service.ts'

let service: Service
let name: string
let count = 0
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(5)))
})
afterAll(() => service.close())
beforeEach(() => {
  name = `experiment-${++count}`
})

const request = (change: object = {}) => ({
  experiment_name: name,
  model_name: './tiny',
  lora: { use_lora: true },
  dataset: { dataset_path: 'data.json' },
  ...change,
})
const start = (key: string, change: object = {}, apiKey = ADMIN, url = '/train/start') =>
  service.call('POST', url, request(change), { 'x-api-key': apiKey, 'idempotency-key': key })

describe('Idempotency-Key', () => {
  test('the same request again: the same answer, one job', async () => {
    const first = await start(name)
    expect(first.status).toBe(200)
    expect(first.headers['idempotent-replayed']).toBeUndefined()
    await service.call('POST', `/train/${name}/stop`)
    const second = await start(name)
    expect(second.headers['idempotent-replayed']).toBe('true')
    expect(second.body).toEqual(first.body)
    expect((await service.jobs.get(name))?.state).toBe('stopped')
    // Without the key it is another request, and refused.
    expect((await service.call('POST', '/train/start', request())).status).toBe(409)
  })

  test('the order of fields and defaults that are spelled out make no other request', async () => {
    const first = await start(name, { epochs: 3 })
    const reversed = Object.fromEntries(Object.entries(request({ seed: 42 })).reverse())
    const second = await service.call('POST', '/train/start', reversed, {
      'x-api-key': ADMIN,
      'idempotency-key': name,
    })
    expect(second.body).toEqual(first.body)
  })

  test('another request with it: 422, and nothing is started', async () => {
    await start(name)
    for (const change of [{ epochs: 4 }, { experiment_name: `${name}-b` }, { lora: { use_lora: true, lora_r: 4 } }]) {
      const { status, body } = await start(name, change)
      expect(status).toBe(422)
      expect(body).toMatchObject({ errors: [{ field: 'Idempotency-Key' }], detail: expect.stringContaining('new key') })
    }
    const clone = { experiment_name: `${name}-c` }
    const headers = { 'x-api-key': ADMIN, 'idempotency-key': name }
    expect((await service.call('POST', `/train/${name}/clone`, clone, headers)).status).toBe(422)
    expect(await service.jobs.get(`${name}-b`)).toBeNull()
    expect(await service.jobs.get(`${name}-c`)).toBeNull()
  })

  test('a replay wins over overwrite: the job that it started is not replaced', async () => {
    const first = await start(name, { overwrite: true })
    await service.call('POST', `/train/${name}/stop`)
    const again = await start(name, { overwrite: true })
    expect(again.body.job_id).toBe(first.body.job_id)
    expect((await service.jobs.get(name))?.id).toBe(first.body.job_id)
  })

  test('clones have it too', async () => {
    await start(`${name}-k`)
    const headers = { 'x-api-key': ADMIN, 'idempotency-key': `${name}-clone` }
    const clone = () => service.call('POST', `/train/${name}/clone`, { experiment_name: `${name}-b` }, headers)
    const [first, second] = [await clone(), await clone()]
    expect(first.status).toBe(200)
    expect(second.body).toEqual(first.body)
  })

  test('belongs to the API key that it came with', async () => {
    const [one, two] = [await service.key(['train']), await service.key(['train'])]
    const mine = await start(name, {}, one)
    name = `${name}-b`
    const theirs = await start(name.slice(0, -2), {}, two)
    expect([mine.status, theirs.status]).toEqual([200, 200])
    expect(theirs.body.job_id).not.toBe(mine.body.job_id)
  })

  test('an error is not kept: the request may be mended or tried again', async () => {
    expect((await start(name, { dataset: { dataset_path: 'none.json' } })).status).toBe(404)
    expect((await start(name, { epochs: 0 })).status).toBe(422)
    expect((await start(name)).status).toBe(200)
  })

  test.each([
    ['', 'is empty'],
    ['   ', 'is empty'],
    ['k'.repeat(256), 'longer than 255'],
    ['a\tb', 'control character'],
  ])('%j: 400', async (key, why) => {
    const { status, body } = await start(key)
    expect(status).toBe(400)
    expect(body.detail).toContain(why)
    expect(body.errors[0].field).toBe('Idempotency-Key')
    expect(await service.jobs.get(name)).toBeNull()
  })

  test('is 255 characters long at most, whatever they are', async () => {
    expect((await start('~"{}é'.repeat(51))).status).toBe(200)
  })

  test('a body nested as deep as it fits is refused, not looked through', async () => {
    await start(`${name}-k`)
    const deep = `{"experiment_name": "${name}-b", "changes": ${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`
    const headers = { 'x-api-key': ADMIN, 'idempotency-key': name, 'content-type': 'application/json' }
    expect((await service.call('POST', `/train/${name}/clone`, deep, headers)).status).toBe(422)
    expect((await service.call('POST', `/train/${name}/clone`, deep)).status).toBe(422)
  })
})

describe('at the same time', () => {
  const realNow = Date.now
  afterEach(() => {
    Date.now = realNow
  })

  test('however often and in whatever mixture: one job a key, and every answer its own', async () => {
    let run = 0
    const sent = fc.record({ key: fc.constantFrom('k', 'l', 'm'), epochs: fc.constantFrom(1, 1, 1, 2) })
    await fc.assert(
      fc.asyncProperty(fc.array(sent, { minLength: 2, maxLength: 12 }), async (requests) => {
        const prefix = `run-${++run}`
        const answers = await Promise.all(
          requests.map(({ key, epochs }) =>
            start(`${prefix}-${key}`, { experiment_name: `${prefix}-${key}`, epochs }).then((answer) => ({
              key,
              epochs,
              ...answer,
            })),
          ),
        )
        for (const key of new Set(requests.map((one) => one.key))) {
          const mine = answers.filter((answer) => answer.key === key)
          const job = await service.jobs.get(`${prefix}-${key}`)
          const good = mine.filter(({ status }) => status === 200)
          expect(good.length).toBeGreaterThan(0)
          expect(new Set(good.map(({ body }) => body.job_id))).toEqual(new Set([job?.id]))
          expect(new Set(good.map(({ body }) => JSON.stringify(body))).size).toBe(1)
          expect(good.filter(({ headers }) => headers['idempotent-replayed'] === undefined)).toHaveLength(1)
          expect(good.every(({ epochs }) => epochs === job?.request.epochs)).toBe(true)
          for (const answer of mine)
            if (answer.status !== 200)
              expect([answer.status, answer.epochs === job?.request.epochs]).toEqual([422, false])
        }
      }),
      { numRuns: 25 },
    )
  })

  test('after a day the key is as new', async () => {
    const first = await start(name)
    await service.call('POST', `/train/${name}/stop`)
    Date.now = () => realNow() + 24 * 3600_000 + 1000
    expect((await start(name)).status).toBe(409)
    const second = await start(name, { overwrite: true })
    expect(second.status).toBe(200)
    expect(second.body.job_id).not.toBe(first.body.job_id)
  })
})
