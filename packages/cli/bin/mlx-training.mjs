#!/usr/bin/env node
// A file of the repository and executable: npm links commands before the build has made dist.
import '../dist/main.js'
