import './styles/index.css'
import { render } from 'preact'
import { App } from './app.tsx'
import { pageAt } from './pages.ts'
import { followLinks } from './router.ts'

followLinks((path) => pageAt(path) !== null)
const root = document.getElementById('app')
if (root) render(<App />, root)
