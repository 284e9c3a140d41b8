<?php
// SimpleSAMLphp as the identity provider of the live tests: one folder, one address, no secrets worth having.
$folder = getenv('IDP_FOLDER');
$config = [
    'baseurlpath' => getenv('IDP_ORIGIN') . '/simplesaml/',
    'certdir' => $folder,
    'metadatadir' => __DIR__ . '/metadata',
    'loggingdir' => $folder,
    'datadir' => $folder,
    'tempdir' => $folder . '/temporary',
    'logging.handler' => 'stderr',
    'logging.level' => SimpleSAML\Logger::NOTICE,
    'secretsalt' => 'of no use elsewhere',
    'auth.adminpassword' => bin2hex(random_bytes(16)),
    'admin.checkforupdates' => false,
    'enable.saml20-idp' => true,
    'enable.adfs-idp' => true,
    'module.enable' => ['exampleauth' => true, 'adfs' => true],
    'store.type' => 'phpsession',
    'session.phpsession.savepath' => $folder . '/sessions',
    // Plain http on loopback, and cookies as they are by default.
    'session.cookie.secure' => false,
    'session.cookie.samesite' => null,
    'language.cookie.secure' => false,
    'language.cookie.samesite' => null,
    'production' => true,
    // Each service provider is known by the metadata that it publishes.
    'metadata.sources' => array_merge(
        [['type' => 'flatfile']],
        array_map(fn ($file) => ['type' => 'xml', 'file' => $file], glob($folder . '/metadata/*.xml'))
    ),
];
