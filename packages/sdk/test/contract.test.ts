/** The SDK is typed by the contract; what types can't say is held to its tables here. */
import * as contract from '@mlx-training/contract'
import { ROUTES, type Route } from '@mlx-training/contract'
import { expect, it } from 'vitest'
import { MlxTraining } from '../src/client.ts'
import { NEEDED, type StartInput } from '../src/requests.ts'

const schemas: Record<string, unknown> = { ...contract }

it.each(Object.entries(NEEDED))('%s: what has a default may be left out, the rest not', (name, needed) => {
  const { required = [], properties } = schemas[name] as {
    required?: string[]
    properties: Record<string, { default?: unknown }>
  }
  expect([...needed].sort()).toEqual(required.filter((key) => properties[key]?.default === undefined).sort())
})

it('has a method for every route that is neither a page nor OpenAI’s', async () => {
  const called = new Set<string>()
  const client = new MlxTraining({
    maxRetries: 0,
    fetch: async (url, init) => {
      called.add(`${init?.method} ${new URL(String(url)).pathname}`)
      const stream = new Headers(init?.headers).has('last-event-id') || String(init?.body).includes('"stream":true')
      return stream ? new Response('') : Response.json({})
    },
  })
  const request: StartInput = { experiment_name: 'n', model_name: 'm', dataset: { dataset_path: 'p' } }
  const { train, datasets, evaluations, keys } = client
  await Promise.all([
    client.health(),
    client.ready(),
    client.metrics(),
    client.models(),
    client.providers(),
    client.generate({ prompt: 'p' }),
    client.compare({ models: ['m'], prompt: 'p' }),
    client.generate
      .stream({ prompt: 'p' })
      .text()
      .catch(() => {}),
    keys.create({ name: 'k', scopes: ['read'] }),
    keys.list(),
    keys.own(),
    keys.delete('n'),
    evaluations.start({ models: ['m'], dataset: { dataset_path: 'p' } }),
    evaluations.list(),
    evaluations.get('n'),
    evaluations.cancel('n'),
    evaluations.delete('n'),
    train.start(request),
    train.estimate(request),
    train.list(),
    train
      .changes({ lastEventId: 'x.1', patience: -1 })
      .next()
      .catch(() => {}),
    train.status('n'),
    train.request('n'),
    train.model('n'),
    train.history('n'),
    train.stop('n'),
    train.pause('n'),
    train.resume('n'),
    train.prioritize('n', { priority: 1 }),
    train.clone('n', { experiment_name: 'o' }),
    train.delete('n'),
    train
      .events('n', { after: 1, patience: -1 })
      .next()
      .catch(() => {}),
    datasets.validate({ file_path: 'p' }),
    datasets.preview({ file_path: 'p', model_name: 'm', samples: [0] }),
    datasets.upload('{}', { name: 'd.json' }),
    datasets.list(),
    datasets.get('n'),
    datasets.rows('n'),
    datasets.content('n'),
    datasets.delete('n'),
    datasets.split('n', { validation_share: 0.1 }),
    datasets.clean('n', { repairs: ['trim'] }),
  ])
  const wanted = Object.values<Route>(ROUTES)
    .filter(({ path }) => !path.startsWith('/v1/'))
    .map(({ method, path }) => `${method} ${path.replace(/:\w+/g, 'n')}`)
  expect([...called].sort()).toEqual(wanted.sort())
})
