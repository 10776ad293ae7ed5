import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, readlink, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config.ts'
import type { ModelRef } from '../../src/models/port.ts'
import { COMMIT, gitHash, HubServer, modelFiles, safetensors, sha256, TOKEN } from './hub-server.ts'
import { createWorld, removeWorlds, type World } from './setup.ts'

const FLOATS = 200_000
const WEIGHTS = modelFiles(FLOATS)['model.safetensors'] as Buffer
const REF: ModelRef = { kind: 'hub', name: 'acme/tiny', repo: 'acme/tiny', revision: COMMIT }

const weightsOf = async (folder: string) => sha256(await readFile(join(folder, 'model.safetensors')))

describe('downloads from a hub', () => {
  let hub: HubServer
  let world: World

  beforeEach(async () => {
    hub = await HubServer.start()
    hub.repositories.set('acme/tiny', { files: modelFiles(FLOATS) })
    world = await createWorld({ hub: hub.url })
  })
  afterEach(async () => {
    await hub.stop()
    await removeWorlds()
  })

  const repoFolder = () => join(world.config.hub.cache, 'models--acme--tiny')
  const blob = () => join(repoFolder(), 'blobs', sha256(WEIGHTS))

  it('writes the cache of huggingface_hub, without code, pickles or subfolders', async () => {
    const ref = await world.models.resolve('acme/tiny')
    expect(ref).toEqual(REF)
    expect(hub.fetched()).toEqual(['config.json'])

    const folder = await world.models.ensure(ref, {})
    expect(folder).toBe(join(repoFolder(), 'snapshots', COMMIT))
    expect((await readdir(folder)).sort()).toEqual([
      'config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    expect(await readlink(join(folder, 'model.safetensors'))).toBe(join('..', '..', 'blobs', sha256(WEIGHTS)))
    const config = Buffer.from(modelFiles()['config.json'] as string)
    expect(await readlink(join(folder, 'config.json'))).toBe(join('..', '..', 'blobs', gitHash(config)))
    expect(await weightsOf(folder)).toBe(sha256(WEIGHTS))
    expect(await readFile(join(repoFolder(), 'refs', 'main'), 'utf8')).toBe(COMMIT)
    expect(await readdir(join(repoFolder(), 'blobs'))).toHaveLength(4)
    expect(hub.fetched().at(-1)).toBe('model.safetensors')

    const asked = hub.requests.length
    expect(await world.models.resolve('acme/tiny')).toEqual({ kind: 'folder', name: 'acme/tiny', path: folder })
    expect(await world.models.ensure(ref, {})).toBe(folder)
    expect(hub.requests.length).toBe(asked)
  })

  it('brings what decides text without the weights, which come when they are needed', async () => {
    const folder = await world.models.ensureText(REF, {})
    expect((await readdir(folder)).sort()).toEqual(['config.json', 'tokenizer.json', 'tokenizer_config.json'])
    expect(hub.fetched()).not.toContain('model.safetensors')
    const asked = hub.requests.length
    expect(await world.models.ensureText(REF, {})).toBe(folder)
    expect(hub.requests.length).toBe(asked)
    expect(await world.models.resolve('acme/tiny')).toEqual(REF)
    expect(await world.models.ensure(REF, {})).toBe(folder)
    expect(await weightsOf(folder)).toBe(sha256(WEIGHTS))
    expect(hub.fetched().filter((name) => name === 'tokenizer.json')).toHaveLength(1)
  })

  it('is found by Python', async () => {
    const folder = await world.models.ensure(REF, {})
    const script =
      'import sys, huggingface_hub as h; print(h.snapshot_download("acme/tiny", cache_dir=sys.argv[1], local_files_only=True))'
    const { stdout } = await promisify(execFile)(loadConfig({}).python, ['-c', script, world.config.hub.cache])
    expect(stdout.trim()).toBe(folder)
  })

  it('tells progress in bytes, up to the whole', async () => {
    const told: [string, number, number][] = []
    await world.models.ensure(REF, { onProgress: (...progress) => told.push(progress) })
    const total = ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
      .map((name) => Buffer.byteLength(modelFiles(FLOATS)[name] as Buffer))
      .reduce((sum, size) => sum + size, 0)
    const done = told.map(([, bytes]) => bytes)
    expect(told.every(([stage, , all]) => stage === 'downloading' && all === total)).toBe(true)
    expect(done).toEqual([...done].sort((a, b) => a - b))
    expect(done.at(-1)).toBe(total)
    expect(done.length).toBeGreaterThan(4)
    expect(done.length).toBeLessThanOrEqual(105)
  })

  it('sends the token to the hub and not to the storage host', async () => {
    hub.repositories.set('acme/tiny', { files: modelFiles(10), access: 'private' })
    world = await createWorld({ hub: hub.url, token: TOKEN })
    await world.models.ensure(await world.models.resolve('acme/tiny'), {})
    expect(hub.requests.every(({ authorization }) => authorization === `Bearer ${TOKEN}`)).toBe(true)
    expect(hub.stored.map(({ authorization }) => authorization)).toEqual([undefined])
  })

  it('sends the token to no other host that the hub names', async () => {
    hub.repositories.set('acme/tiny', { files: modelFiles(10), pagesElsewhere: true })
    world = await createWorld({ hub: hub.url, token: TOKEN })
    await world.models.ensure(REF, {})
    expect(hub.stored.filter(({ path }) => path.includes('/tree/')).length).toBeGreaterThan(0)
    expect(hub.stored.map(({ authorization }) => authorization).filter(Boolean)).toEqual([])
  })

  it('goes on where a connection broke', async () => {
    hub.faults.push(
      { kind: 'break', after: 300_000 },
      { kind: 'status', status: 503 },
      { kind: 'break', after: 100_000 },
    )
    const folder = await world.models.ensure(REF, {})
    expect(await weightsOf(folder)).toBe(sha256(WEIGHTS))
    const from = hub.stored.map(({ range }) => Number(/^bytes=(\d+)-$/.exec(range ?? 'bytes=0-')?.[1]))
    expect(from).toHaveLength(4)
    expect(from[0]).toBe(0)
    expect(from[1]).toBeGreaterThan(0)
    expect(from[2]).toBe(from[1])
    expect(from[3]).toBeGreaterThan(from[2] as number)
  })

  it('goes on after the server was restarted in the middle', async () => {
    const leave = new AbortController()
    hub.faults.push({ kind: 'pause', after: 400_000, release: new Promise(() => {}) })
    const reason = new Error('the server stops')
    const onProgress = (_: string, done: number) => {
      if (done > 200_000) leave.abort(reason)
    }
    await expect(world.models.ensure(REF, { signal: leave.signal, onProgress })).rejects.toBe(reason)
    await expect.poll(() => existsSync(`${blob()}.mlx-training.incomplete`)).toBe(true)
    expect(existsSync(blob())).toBe(false)
    expect(await world.models.list()).toEqual([])

    const again = world.reopen()
    expect(await again.resolve('acme/tiny')).toEqual(REF)
    const folder = await again.ensure(REF, {})
    expect(await weightsOf(folder)).toBe(sha256(WEIGHTS))
    expect(Number(/^bytes=(\d+)-$/.exec(hub.stored.at(-1)?.range ?? '')?.[1])).toBeGreaterThan(200_000)
    expect(await readdir(join(repoFolder(), 'blobs'))).toHaveLength(4)
  })

  it('starts again when the storage host does not continue', async () => {
    hub.faults.push({ kind: 'break', after: 300_000 }, { kind: 'ignore-range' })
    const folder = await world.models.ensure(REF, {})
    expect(await weightsOf(folder)).toBe(sha256(WEIGHTS))
  })

  it('fetches a damaged file once more, and keeps none', async () => {
    hub.faults.push({ kind: 'corrupt' })
    expect(await weightsOf(await world.models.ensure(REF, {}))).toBe(sha256(WEIGHTS))
    expect(hub.stored).toHaveLength(2)

    world = await createWorld({ hub: hub.url })
    hub.faults.push({ kind: 'corrupt' }, { kind: 'corrupt' })
    await expect(world.models.ensure(REF, {})).rejects.toMatchObject({
      code: 'provider_error',
      message: expect.stringContaining('model.safetensors of acme/tiny arrived damaged twice'),
    })
    expect(existsSync(blob())).toBe(false)
    expect(existsSync(`${blob()}.mlx-training.incomplete`)).toBe(false)
  })

  it('gives up when the storage host stays unwell', async () => {
    hub.faults.push(...Array.from({ length: 5 }, () => ({ kind: 'status', status: 500 }) as const))
    await expect(world.models.ensure(REF, {})).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('status 500'),
    })
    expect(hub.stored).toHaveLength(5)
  })

  it('downloads a model once for all who ask at the same time', async () => {
    let release = () => {}
    hub.faults.push({ kind: 'pause', after: 1000, release: new Promise((resolve) => (release = resolve)) })
    const leave = new AbortController()
    const told: number[] = []
    const first = world.models.ensure(REF, { signal: leave.signal })
    const second = world.models.ensure(REF, { onProgress: (_, done) => told.push(done) })
    await expect.poll(() => hub.stored.length).toBe(1)
    leave.abort(new Error('no longer wanted'))
    await expect(first).rejects.toThrow('no longer wanted')
    release()
    expect(await weightsOf(await second)).toBe(sha256(WEIGHTS))
    expect(hub.stored).toHaveLength(1)
    expect(told.length).toBeGreaterThan(0)
  })

  it('begins anew for who asks after the last one has left', async () => {
    hub.faults.push({ kind: 'pause', after: 1000, release: new Promise(() => {}) })
    const leave = new AbortController()
    const first = world.models.ensure(REF, { signal: leave.signal })
    await expect.poll(() => hub.stored.length).toBe(1)
    leave.abort()
    const second = world.models.ensure(REF, {})
    await expect(first).rejects.toBe(leave.signal.reason)
    expect(await weightsOf(await second)).toBe(sha256(WEIGHTS))
  })

  it('says so before it starts when the disk has no room', async () => {
    hub.repositories.set('acme/tiny', { files: modelFiles(10), sizes: { 'model.safetensors': 4e15 } })
    await expect(world.models.ensure(REF, {})).rejects.toMatchObject({
      code: 'insufficient_storage',
      message: expect.stringMatching(/4000000\.0 GB are needed, .* HF_HUB_CACHE/),
    })
  })

  it.runIf(existsSync('/dev/full'))('says so when the disk fills up in the middle', async () => {
    await mkdir(join(repoFolder(), 'blobs'), { recursive: true })
    await symlink('/dev/full', `${blob()}.mlx-training.incomplete`)
    await expect(world.models.ensure(REF, {})).rejects.toMatchObject({ code: 'insufficient_storage' })
    expect(existsSync(blob())).toBe(false)
  })

  it('takes all shards, and completes a snapshot that lacks one', async () => {
    const shard = (i: number) => `model-0000${i}-of-00002.safetensors`
    const { 'model.safetensors': _, ...rest } = modelFiles()
    const files: Record<string, Buffer | string> = {
      ...rest,
      [shard(1)]: safetensors(100),
      [shard(2)]: safetensors(200),
    }
    files['model.safetensors.index.json'] = JSON.stringify({ weight_map: { a: shard(1), b: shard(2) } })
    hub.repositories.set('acme/tiny', { files })
    hub.faults.push(
      { kind: 'break', after: 0 },
      ...Array.from({ length: 5 }, () => ({ kind: 'status', status: 500 }) as const),
    )
    await expect(world.models.ensure(REF, {})).rejects.toMatchObject({ code: 'unavailable' })
    hub.faults.length = 0
    const folder = await world.models.ensure(REF, {})
    expect((await readdir(folder)).filter((name) => /^model/.test(name))).toHaveLength(3)
  })

  it('refuses code in the tokenizer before the weights', async () => {
    const auto_map = { AutoTokenizer: ['tokenization_evil.Evil', null] }
    hub.repositories.set('acme/tiny', {
      files: { ...modelFiles(), 'tokenizer_config.json': JSON.stringify({ auto_map }) },
    })
    await expect(world.models.ensure(REF, {})).rejects.toMatchObject({
      code: 'invalid_parameters',
      message: expect.stringContaining('"auto_map" in tokenizer_config.json'),
    })
    expect(hub.stored).toEqual([])
  })
})
