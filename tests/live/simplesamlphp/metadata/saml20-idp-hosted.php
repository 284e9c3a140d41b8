<?php
$metadata['__DYNAMIC:1__'] = [
    'host' => '__DEFAULT__',
    'privatekey' => 'idp-key.pem',
    'certificate' => 'idp.pem',
    'auth' => 'people',
    'userid.attribute' => 'uid',
    // Whatever is signed has to arrive as it was sent, in both directions.
    'validate.authnrequest' => true,
    'redirect.sign' => true,
    'redirect.validate' => true,
];
