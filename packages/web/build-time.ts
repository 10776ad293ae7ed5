/** What the dashboard knows by what is beside it in this repository, as modules that are made when it is built. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { StartRequest } from '@mlx-training/contract'
import type { Plugin } from 'vite'
import { parse } from 'yaml'

const RECIPES = fileURLToPath(new URL('../../recipes/', import.meta.url))

/** `virtual:start` is the schema of a start, 3 KB compressed; imported as code it brings 19 KB of its library with it. */
const MODULES: Record<string, () => unknown> = {
  'virtual:start': () => StartRequest,
  'virtual:recipes': () =>
    readdirSync(RECIPES)
      .filter((file) => file.endsWith('.yaml'))
      .map((file) => {
        const text = readFileSync(RECIPES + file, 'utf8')
        const about = /^# (.+)/.exec(text)?.[1] ?? ''
        return { id: file.replace('.yaml', ''), about, request: parse(text) }
      }),
}

export function buildTime(): Plugin {
  return {
    name: 'build-time',
    resolveId: (id) => (id in MODULES ? `\0${id}` : null),
    load: (id) => {
      const make = MODULES[id.slice(1)]
      return id.startsWith('\0') && make ? `export default ${JSON.stringify(make())}` : null
    },
  }
}
