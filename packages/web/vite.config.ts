/** The dashboard as files that the server serves as they are: hashed names, no inline script or style. */
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'
import { buildTime } from './build-time.ts'

const source = (name: string) => fileURLToPath(new URL(`../${name}/src/index.ts`, import.meta.url))

/** In development the API answers from a real server: MLX_TRAINING_URL, or where one is by default. */
const api = process.env.MLX_TRAINING_URL ?? 'http://127.0.0.1:8200'
const API_PATHS = [
  '/train',
  '/datasets',
  '/models',
  '/generate',
  '/compare',
  '/evaluate',
  '/providers',
  '/health',
  '/ready',
  '/metrics',
  '/keys',
  '/v1',
  '/docs',
  '/openapi.json',
]

export default defineConfig({
  plugins: [buildTime()],
  root: fileURLToPath(new URL('.', import.meta.url)),
  resolve: { alias: { '@mlx-training/contract': source('contract'), '@mlx-training/sdk': source('sdk') } },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    target: 'es2022',
    // The content security policy lets no data: font or inline script in.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    proxy: Object.fromEntries(
      API_PATHS.map((path) => [
        `^${path}(?:[/?]|$)`,
        // The server refuses requests of pages of another origin.
        { target: api, changeOrigin: true, headers: { origin: new URL(api).origin } },
      ]),
    ),
  },
})
